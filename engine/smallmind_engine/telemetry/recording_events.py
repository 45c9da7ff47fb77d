"""The flight recorder's event: what is needed to run a request again."""

from __future__ import annotations

from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kinds import EventKind


@event
class RequestRecorded(Event):
    """A request is about to produce its first token; this is what it was asked.

    Attributes:
        fingerprint: identifies the content of the model's file.
        runtime: versions and settings that may change the last digit of a score.
        seed: the one that the draws use, also when the caller gave none.
        options: of sampling and of the end, by name; those that are not told are the defaults.
        logit_bias: ``(token id, bias)``.
        stop: strings that end it; only set when the capture of content is switched on.
        stop_count: how many of them there are.
        prompt_tokens: how many the prompt has, with all that came before in the session.
        cached_tokens: how many of them were in the session's cache.
        prompt_sha256: of the prompt's ids as little-endian 64-bit integers, in hex digits.
        prompt_ids: only set when the capture of content is switched on.
        context_overflow: what happens when the context is full; empty in logs that do not say.
        response_kind: kind of the format that the answer was held to; empty without one.
        response_format: the format as JSON; only set when the capture of content is switched on.
    """

    kind = EventKind.REQUEST_RECORDED

    model: str
    fingerprint: str
    backend: str
    runtime: tuple[tuple[str, str], ...]
    operation: str
    seed: int
    max_tokens: int
    ignore_eos: bool
    options: tuple[tuple[str, float], ...]
    logit_bias: tuple[tuple[int, float], ...]
    stop: tuple[str, ...] | None
    stop_count: int
    prompt_tokens: int
    cached_tokens: int
    prompt_sha256: str
    prompt_ids: tuple[int, ...] | None = None
    context_overflow: str = ""
    response_kind: str = ""
    response_format: str | None = None
