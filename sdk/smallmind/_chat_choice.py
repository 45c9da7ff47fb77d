"""Which template a conversation is rendered with, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from smallmind._chat_families import FAMILIES, PLAIN, ChatFamily
from smallmind._chat_template import reads_variable
from smallmind_engine.model import LoadedModel
from smallmind_engine.telemetry import ChatTemplateError, ReasonCode
from smallmind_engine.tokenizers import Tokenizer

_KEY: Final = "tokenizer.chat_template"
_TOOL_USE: Final = "tool_use"  # the name that converters give to a model's template for tools


class TemplateOrigin(StrEnum):
    """Where a template comes from."""

    MODEL = "model"  # the model file
    CALLER = "caller"  # ``ChatOptions.template``
    FALLBACK = "fallback"  # guessed, because the file has none


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A chosen template.

    Attributes:
        source: Jinja source.
        name: ``default``, the name that the file or this library gives it, or ``custom``.
        origin: where it comes from.
        why: what spoke for it, in words.
        tool_source: a template of the file's own for conversations with tools, if there is one.
        stops: texts that end an answer and that the vocabulary does not know as tokens.
    """

    source: str
    name: str
    origin: TemplateOrigin
    why: str
    tool_source: str | None = None
    stops: tuple[str, ...] = ()

    def source_for(self, *, tools: bool) -> str:
        """The source for a conversation with or without tools."""
        return self.tool_source if tools and self.tool_source is not None else self.source

    @property
    def knows_tools(self) -> bool:
        """Whether it describes tools to the model."""
        return reads_variable(self.source_for(tools=True), "tools")


def choose_template(model: LoadedModel, wanted: str | None, *, strict: bool) -> ChatTemplate:
    """The caller's template, the model's own, or one guessed from the vocabulary.

    Args:
        model: whose conversation it is.
        wanted: Jinja source, the name of a template in the file, or that of a family.
        strict: refuse rather than guess.

    Raises:
        ChatTemplateError: ``wanted`` is no known name, or there is no template and ``strict``.
    """
    named = named_templates(model.file.metadata)
    if wanted is not None:
        return _wanted(model.tokenizer, wanted, named)
    if model.chat_template is not None:
        return ChatTemplate(
            source=model.chat_template,
            name="default",
            origin=TemplateOrigin.MODEL,
            why="the model file's own",
            tool_source=named.get(_TOOL_USE),
        )
    if named:
        name = next(iter(named))
        return ChatTemplate(
            source=named[name],
            name=name,
            origin=TemplateOrigin.MODEL,
            why="the first named template of the model file",
            tool_source=named.get(_TOOL_USE),
        )
    family, why = guess_family(model.tokenizer, model.spec.architecture)
    if strict:
        raise ChatTemplateError(
            ReasonCode.CHAT_TEMPLATE_MISSING,
            f"the model {model.name!r} has no chat template",
            hint="use an instruction-tuned model, pass ChatOptions(template=...), or allow a"
            f" guess, which would be {family.name!r}",
            guess=family.name,
        )
    return _of_family(model.tokenizer, family, TemplateOrigin.FALLBACK, why)


def named_templates(metadata: Mapping[str, object]) -> dict[str, str]:
    """The further templates of a file, by name, in the order in which the file lists them."""
    listed = metadata.get(f"{_KEY}s")
    names = [str(name) for name in listed] if isinstance(listed, (list, tuple)) else []
    prefix = f"{_KEY}."
    names += [key.removeprefix(prefix) for key in metadata if key.startswith(prefix)]
    found = {name: metadata.get(prefix + name) for name in names}
    return {name: source for name, source in found.items() if isinstance(source, str)}


def guess_family(tokenizer: Tokenizer, architecture: str) -> tuple[ChatFamily, str]:
    """The family that a model without a template most likely belongs to, and what says so."""
    for family in FAMILIES.values():
        if family.markers and all(is_token(tokenizer, marker) for marker in family.markers):
            return family, f"the vocabulary has {' and '.join(family.markers)}"
    for family in FAMILIES.values():
        if architecture in family.architectures:
            return family, f"the architecture is {architecture}"
    # The first Llama models: a token table, and nothing in it for the roles.
    if architecture == "llama" and tokenizer.kind == "token_table":
        return FAMILIES["llama2"], "a llama model with a token table"
    return PLAIN, "nothing in the file speaks for another format"


def is_token(tokenizer: Tokenizer, text: str) -> bool:
    """Whether the vocabulary knows ``text`` as one control or user-defined token."""
    fragments = tokenizer.special_fragments(text)
    return len(fragments) == 1 and isinstance(fragments[0], int)


def _wanted(tokenizer: Tokenizer, wanted: str, named: Mapping[str, str]) -> ChatTemplate:
    if wanted in named:
        return ChatTemplate(
            source=named[wanted],
            name=wanted,
            origin=TemplateOrigin.MODEL,
            why="asked for by name",
            tool_source=named.get(_TOOL_USE),
        )
    if wanted in FAMILIES:
        return _of_family(tokenizer, FAMILIES[wanted], TemplateOrigin.CALLER, "asked for by name")
    if not any(mark in wanted for mark in ("{{", "{%")):
        known = ", ".join((*named, *FAMILIES))
        raise ChatTemplateError(
            ReasonCode.CHAT_TEMPLATE_INVALID,
            f"template {wanted[:80]!r} is neither Jinja source nor a known name",
            hint=f"known names: {known}",
        )
    return ChatTemplate(
        source=wanted, name="custom", origin=TemplateOrigin.CALLER, why="passed by the caller"
    )


def _of_family(
    tokenizer: Tokenizer, family: ChatFamily, origin: TemplateOrigin, why: str
) -> ChatTemplate:
    stops = tuple(stop for stop in family.stops if not is_token(tokenizer, stop))
    return ChatTemplate(source=family.source, name=family.name, origin=origin, why=why, stops=stops)
