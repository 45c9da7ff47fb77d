"""Running recorded requests again: the same tokens, or the first step at which they part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import zip_longest

from smallmind._engine import Engine
from smallmind.replay.recorded import RecordedRequest
from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime.recording import prompt_digest, runtime_of
from smallmind_engine.telemetry import SmallMindError, StopReason


class Outcome(StrEnum):
    """How a recorded request and its repetition compare."""

    SAME = "same"
    DIVERGED = "diverged"
    NOT_COMPARABLE = "not_comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What came of running a recorded request again.

    Attributes:
        request_id: its id.
        outcome: in a word.
        tokens: how many were compared and the same, from the first.
        step: index of the first token that differs; None when none does.
        recorded: the token there in the log; None when it had ended.
        repeated: the token there now; None when it has ended.
        recorded_text: text of ``recorded``.
        repeated_text: text of ``repeated``.
        margin: log-probability by which the best token leads there; a small one tells of a tie
            that the last digit of a score decides. None where it is not known.
        recorded_reason: why it stopped in the log.
        repeated_reason: why it stops now; None when it was not run to its end.
        changed: settings and versions that differ, as ``(name, in the log, here)``.
        why: in words, when it is not comparable.
    """

    request_id: str
    outcome: Outcome
    tokens: int = 0
    step: int | None = None
    recorded: int | None = None
    repeated: int | None = None
    recorded_text: str = ""
    repeated_text: str = ""
    margin: float | None = None
    recorded_reason: StopReason | None = None
    repeated_reason: StopReason | None = None
    changed: tuple[tuple[str, str, str], ...] = ()
    why: str = ""


def verify(requests: Iterable[RecordedRequest], engine: Engine) -> Iterator[Verification]:
    """Run requests again, one after the other, each on its own.

    Args:
        requests: of a log, see ``recorded_requests``.
        engine: with the model that is to be held against the log.
    """
    return (verify_request(request, engine) for request in requests)


def verify_request(
    request: RecordedRequest, engine: Engine, *, cancellation: CancellationToken | None = None
) -> Verification:
    """Run one request again; what keeps it from being compared is told, not raised.

    Args:
        request: of a log.
        engine: with the model that is to be held against the log.
        cancellation: stops it.
    """
    changed = _changed(request, engine)
    why = _obstacle(request, engine)
    if why:
        return _not_comparable(request, why, changed)
    try:
        options = replace(request.options, cancellation=cancellation)
        result = engine.generate(request.record.prompt_ids or (), options=options)
    except SmallMindError as error:
        return _not_comparable(request, str(error), changed)
    if result.stop_reason is StopReason.CANCELLED_BY_CALLER:
        return _not_comparable(request, "it was cancelled", changed)
    ended = result.stop_reason if request.ended_by_itself else None
    compared = Verification(
        request_id=request.request_id,
        outcome=Outcome.SAME,
        tokens=len(request.token_ids),
        recorded_reason=request.reason,
        repeated_reason=ended,
        changed=changed,
    )
    for step, (recorded, repeated) in enumerate(zip_longest(request.token_ids, result.token_ids)):
        if recorded != repeated:
            return replace(
                compared,
                outcome=Outcome.DIVERGED,
                tokens=step,
                step=step,
                recorded=recorded,
                repeated=repeated,
                recorded_text=_text(engine, recorded),
                repeated_text=_text(engine, repeated),
                margin=_margin(request, engine, step),
            )
    if ended is not None and ended != request.reason:
        return replace(compared, outcome=Outcome.DIVERGED, step=len(request.token_ids))
    return compared


def _obstacle(request: RecordedRequest, engine: Engine) -> str:
    """Why the request cannot be run again; empty when it can."""
    record = request.record
    if record.fingerprint != engine.model.fingerprint:
        return (
            f"it ran on another model file: {record.model} ({record.fingerprint}),"
            f" not {engine.model.name} ({engine.model.fingerprint})"
        )
    if record.prompt_ids is None or record.stop is None:
        return "its prompt was not recorded; load the engine with capture_content=True to record it"
    if prompt_digest(record.prompt_ids) != record.prompt_sha256:
        return "its prompt in the log is not the one that ran: the digests differ"
    if None in request.token_ids:
        return (
            "not all of its tokens were recorded; record with detail='token' or more, and look"
            " whether events were lost"
        )
    if not request.token_ids and not request.ended_by_itself:
        return "it produced no token"
    return ""


def _not_comparable(
    request: RecordedRequest, why: str, changed: tuple[tuple[str, str, str], ...]
) -> Verification:
    return Verification(
        request_id=request.request_id,
        outcome=Outcome.NOT_COMPARABLE,
        recorded_reason=request.reason,
        changed=changed,
        why=why,
    )


def _changed(request: RecordedRequest, engine: Engine) -> tuple[tuple[str, str, str], ...]:
    """What is not as it was when the request was recorded."""
    then = dict((("backend", request.record.backend), *request.record.runtime))
    now = dict((("backend", engine.backend), *runtime_of(engine.model)))
    return tuple(
        (name, then.get(name, ""), now.get(name, ""))
        for name in dict.fromkeys((*then, *now))
        if then.get(name, "") != now.get(name, "")
    )


def _text(engine: Engine, token_id: int | None) -> str:
    if token_id is None or not 0 <= token_id < engine.model.spec.vocab_size:
        return ""
    return engine.detokenize([token_id])


def _margin(request: RecordedRequest, engine: Engine, step: int) -> float | None:
    """How clear the choice was at ``step``: the lead of the best token over the second."""
    options = replace(request.options, max_tokens=step + 1, logprobs=2, ignore_eos=True)
    result = engine.generate(request.record.prompt_ids or (), options=options)
    if result.logprobs is None or len(result.logprobs) <= step:
        return None
    best = result.logprobs[step].top
    return best[0][1] - best[1][1] if len(best) > 1 else None
