"""What a conversation tells the bus besides what its requests do."""

from __future__ import annotations

from smallmind._chat_choice import ChatTemplate
from smallmind._chat_conversation import Window
from smallmind_engine.telemetry import (
    Degraded,
    DegradeReason,
    Emitter,
    EventKind,
    ReasonCode,
    RuntimeLoggerAdapter,
)

_COMPONENT = "chat"


def tell_fallback(emitter: Emitter, model: str, template: ChatTemplate) -> None:
    """The format was guessed."""
    if emitter.wants & EventKind.DEGRADED:
        emitter.publish(
            Degraded(
                *emitter.header(),
                component=_COMPONENT,
                reason=DegradeReason.CHAT_TEMPLATE_FALLBACK,
                message=f"{model} has no chat template; {template.name} is used: {template.why}",
            )
        )
    RuntimeLoggerAdapter(_COMPONENT, emitter).warn(
        "the chat format was guessed",
        reason=ReasonCode.CHAT_TEMPLATE_FALLBACK,
        model=model,
        template=template.name,
        why=template.why,
    )


def tell_left_out(emitter: Emitter, window: Window, turns: int) -> None:
    """Turns did not go into the prompt."""
    summarized = window.summary is not None
    if emitter.wants & EventKind.DEGRADED:
        stead = "; a summary stands for them" if summarized else ""
        emitter.publish(
            Degraded(
                *emitter.header(),
                component=_COMPONENT,
                reason=DegradeReason.CONTEXT_TRUNCATION,
                message=f"the oldest {window.first} of {turns} turns were left out{stead}",
            )
        )
    RuntimeLoggerAdapter(_COMPONENT, emitter).warn(
        "oldest turns were left out",
        reason=ReasonCode.CONTEXT_TRUNCATION,
        left_out_turns=window.first,
        turns=turns,
        summarized=summarized,
    )


def tell_calls(emitter: Emitter, calls: int, invalid: int) -> None:
    """The model called tools."""
    RuntimeLoggerAdapter(_COMPONENT, emitter).info(
        "the model called tools", calls=calls, invalid=invalid
    )


def tell_rounds_exhausted(emitter: Emitter, max_rounds: int) -> None:
    """The model still called tools when no round was left."""
    RuntimeLoggerAdapter(_COMPONENT, emitter).warn(
        "no round is left for the tools that the model called",
        reason=ReasonCode.TOOL_ROUNDS_EXHAUSTED,
        max_rounds=max_rounds,
    )
