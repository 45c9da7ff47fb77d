"""Rendering a conversation with the chat template that came in the model file.

The template is a program by whoever made the file. It runs in a sandbox: it sees the messages and
a few functions, reaches nothing of Python or of the host, and its time and memory are bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType, TracebackType
from typing import Any, Final

from jinja2.meta import find_undeclared_variables

from smallmind._template_sandbox import (
    BUDGET_VARIABLE,
    LIMITS,
    ChatEnvironment,
    RenderBudget,
    TemplateLimits,
    plain_data,
)
from smallmind._template_sandbox.budget import exceeded
from smallmind._template_sandbox.functions import RefusedConversationError
from smallmind_engine.telemetry import ChatTemplateError, ReasonCode

_COMPILED_TEMPLATES: Final = 8  # one per model in use
_TEMPLATE_FILES: Final = frozenset({"<template>", "<unknown>"})  # what Jinja calls its own code


def render_chat(
    template: str,
    messages: Sequence[Mapping[str, object]],
    *,
    bos_token: str,
    eos_token: str,
    add_generation_prompt: bool,
    tools: Sequence[Mapping[str, object]] | None = None,
    variables: Mapping[str, object] = MappingProxyType({}),
    limits: TemplateLimits = LIMITS,
    now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
) -> str:
    """Turn messages into the prompt that the model was trained on.

    Args:
        template: Jinja source, as in ``tokenizer.chat_template``.
        messages: each with ``role`` and ``content``, and whatever else the template reads.
        bos_token: text of the token that begins a text; empty without one.
        eos_token: text of the token that ends a text; empty without one.
        add_generation_prompt: end with the opening of the model's own turn.
        tools: descriptions of functions the model may call.
        variables: more names for the template, such as ``enable_thinking``.
        limits: bounds of the rendering.
        now: local time, for templates that name the date.

    Returns:
        The prompt.

    Raises:
        ChatTemplateError: the template does not compile, refused the messages, failed, tried to
            leave the sandbox, or went beyond its limits.
    """
    if len(template) > limits.source_chars:
        raise exceeded("is longer", limits.source_chars, "characters")
    budget = RenderBudget(limits, now)
    names: dict[str, object] = {
        **variables,
        "messages": messages,
        "tools": tools,
        "bos_token": bos_token,
        "eos_token": eos_token,
        "add_generation_prompt": add_generation_prompt,
    }
    context = {name: plain_data(value, name) for name, value in names.items()}
    for value in context.values():
        budget.measure(value)
    try:
        return _collected(
            _compiled(template).generate({**context, BUDGET_VARIABLE: budget}), limits
        )
    except ChatTemplateError:
        raise
    except RefusedConversationError as error:
        raise ChatTemplateError(
            ReasonCode.CHAT_TEMPLATE_INVALID,
            f"the chat template refuses the conversation: {error}",
            hint="change the messages as it asks, or pass a template= of your own",
        ) from error
    except Exception as error:
        # A template is a foreign program: whatever it dies of is the template's failure.
        raise ChatTemplateError(
            ReasonCode.CHAT_TEMPLATE_INVALID,
            f"the chat template failed{_line_of(error)}: {type(error).__name__}: {error}",
            hint="pass a template= of your own",
        ) from error


@lru_cache(maxsize=_COMPILED_TEMPLATES)
def reads_variable(template: str, name: str) -> bool:
    """Whether ``template`` reads the variable ``name`` anywhere; False when it is no template."""
    try:
        return name in find_undeclared_variables(_environment().parsed(template))
    except Exception:  # noqa: BLE001 - a foreign program: rendering it tells what is wrong
        return False


def _collected(pieces: Any, limits: TemplateLimits) -> str:
    texts: list[str] = []
    chars = 0
    for piece in pieces:
        chars += len(piece)
        if chars > limits.output_chars:
            raise exceeded("rendered a longer prompt", limits.output_chars, "characters")
        texts.append(piece)
    return "".join(texts)


@lru_cache(maxsize=1)
def _environment() -> ChatEnvironment:
    return ChatEnvironment()


@lru_cache(maxsize=_COMPILED_TEMPLATES)
def _compiled(source: str) -> Any:
    return _environment().compiled(source)


def _line_of(error: BaseException) -> str:
    """`` at line N`` of the template, where that is known."""
    line = getattr(error, "lineno", None)
    frame: TracebackType | None = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename in _TEMPLATE_FILES:
            line = frame.tb_lineno
        frame = frame.tb_next
    return "" if line is None else f" at line {line}"
