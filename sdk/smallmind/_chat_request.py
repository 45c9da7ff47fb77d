"""A turn on its way: what was asked, the prompt it became, and what is kept of the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from smallmind._chat_conversation import (
    Conversation,
    Message,
    Trail,
    Turn,
    Window,
    digest_of,
    known_tokens,
    prompt_messages,
)
from smallmind._chat_format import ChatFormat, Prompt
from smallmind._chat_history import HistoryPolicy, HistoryView
from smallmind._chat_result import ChatResult, chat_result
from smallmind._chat_tools import Tool, ToolCall, ToolFormat, made_calls
from smallmind_engine.runtime import (
    ContextOverflow,
    GenerationOptions,
    GenerationResult,
    GenerationRun,
    status_of,
)
from smallmind_engine.telemetry import RequestStatus

_LEAST_SHARE = 4  # a quarter of the context is room enough for an answer


@dataclass(frozen=True, slots=True)
class Asked:
    """What waits for an answer.

    Attributes:
        before: the conversation up to the turn.
        messages: of the turn: the user's, and what tools answered since.
        trail: of the turn so far; None when it has only begun.
    """

    before: Conversation
    messages: tuple[Message, ...]
    trail: Trail | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent for it.

    Attributes:
        asked: see there.
        window: what of the conversation the prompt holds.
        prompt: see there.
        options: of the request.
        tools: that the model may call.
        tool_format: how it writes calls; None without tools.
        trails: whether the tokens of prompt and answer are worth keeping.
    """

    asked: Asked
    window: Window
    prompt: Prompt
    options: GenerationOptions
    tools: tuple[Tool, ...]
    tool_format: ToolFormat | None
    trails: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of it.

    Attributes:
        result: for the caller.
        conversation: with the turn, if it is kept; None if not.
    """

    result: ChatResult
    conversation: Conversation | None


def planned(
    asked: Asked,
    chat_format: ChatFormat,
    policy: HistoryPolicy,
    options: GenerationOptions,
    tools: tuple[Tool, ...],
    tool_format: ToolFormat | None,
    context_length: int,
) -> Plan:
    """Choose what of the conversation goes into the prompt, and make it.

    Raises:
        ChatTemplateError: the template cannot render the conversation.
    """
    before = asked.before
    specs = [tool.spec for tool in tools]
    turns = [*(turn.messages for turn in before.turns), asked.messages]
    open_turn = () if asked.trail is None else (Turn((), asked.trail),)
    known = known_tokens((*before.turns, *open_turn))

    def prompt_of(window: Window) -> Prompt:
        messages = prompt_messages(before.system, turns, window)
        return chat_format.prompt(messages, specs, known)

    most = context_length - 1
    room = max(most - min(options.max_tokens, context_length // _LEAST_SHARE), 1)

    def fits(window: Window, tokens: int) -> bool:
        prompt = prompt_of(window)
        return prompt.most_tokens <= tokens or chat_format.count(prompt) <= tokens

    window = policy.choose(HistoryView(turns, before.window, room, fits))
    prompt = prompt_of(window)
    whole = options.context_overflow is ContextOverflow.ERROR or prompt.most_tokens <= most
    return Plan(
        asked,
        window,
        prompt,
        dataclasses.replace(
            options, parse_special=True, stop=(*options.stop, *chat_format.template.stops)
        ),
        tools,
        tool_format,
        trails=whole,
    )


def answered(plan: Plan, run: GenerationRun, chat_format: ChatFormat) -> Answered | None:
    """What came of a run; None when it never began.

    An answer that was cut short is kept. One that failed is not, nor one that was stopped before
    it had a token.
    """
    result = run.result
    if result is None:
        return None
    asked, before = plan.asked, plan.asked.before
    content, calls = _read(plan, result, chat_format)
    status = status_of(result.stop_reason)
    kept = status is RequestStatus.COMPLETED or (
        status is RequestStatus.CANCELLED and bool(result.token_ids)
    )
    told = chat_result(
        result,
        content=content,
        tool_calls=calls,
        turn=len(before.turns) if kept else None,
        left_out_turns=plan.window.first,
        summarized=plan.window.summary is not None,
        template=chat_format.template.name,
    )
    if not kept:
        return Answered(told, None)
    turn = Turn((*asked.messages, _message(told)), _trail(plan, run, result))
    conversation = dataclasses.replace(before, turns=(*before.turns, turn), window=plan.window)
    return Answered(told, conversation)


def _read(
    plan: Plan, result: GenerationResult, chat_format: ChatFormat
) -> tuple[str, tuple[ToolCall, ...]]:
    if plan.tool_format is None:
        return result.text, ()
    turns = (*(turn.messages for turn in plan.asked.before.turns), plan.asked.messages)
    before = sum(_calls_in(messages) for messages in turns)
    text = chat_format.raw_text(result.token_ids)
    content, calls = made_calls(text, plan.tools, plan.tool_format, before)
    return (content if calls else result.text), calls


def _calls_in(messages: Sequence[Message]) -> int:
    return sum(len(calls) for each in messages if isinstance(calls := each.get("tool_calls"), list))


def _message(result: ChatResult) -> Message:
    """The model's message: its calls are parts of their own, unless one cannot be read."""
    if not result.tool_calls or not all(call.name for call in result.tool_calls):
        return {"role": "assistant", "content": result.text}
    calls = [call.message_part for call in result.tool_calls]
    return {"role": "assistant", "content": result.content, "tool_calls": calls}


def _trail(plan: Plan, run: GenerationRun, result: GenerationResult) -> Trail | None:
    """The tokens of prompt and answer; None when their text is not that of the conversation."""
    if not plan.trails or result.stop_sequence is not None:
        return None
    text = plan.prompt.text + result.text
    known, so_far = len(plan.prompt.prefix_ids), plan.asked.trail
    sequence = run.sequence_ids
    if len(sequence) != result.usage.total_tokens:  # it has slid out of the context's beginning
        return None
    ids = tuple(sequence[known:])
    continues = known > 0
    if continues and so_far is not None:
        ids, continues = so_far.token_ids + ids, so_far.continues
    return Trail(continues, ids, len(text), digest_of(text))
