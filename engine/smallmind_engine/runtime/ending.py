"""The end of a request: its result, its events, and everything it held given back."""

from __future__ import annotations

from smallmind_engine.runtime.observer import status_of
from smallmind_engine.runtime.results import GenerationResult, StreamChunk, Timings, Usage
from smallmind_engine.runtime.structure import Structured
from smallmind_engine.runtime.work import RequestWork, Stage
from smallmind_engine.telemetry import (
    DegradeReason,
    Phase,
    RequestStatus,
    SmallMindError,
    StopReason,
)
from smallmind_engine.telemetry.errors import BackpressureError, MemoryBudgetError


def stop_reason_of(error: BaseException) -> StopReason:
    """The stop reason that goes with an error."""
    if isinstance(error, BackpressureError | MemoryBudgetError):
        return StopReason(error.reason.value)
    return StopReason.ERROR


def end(work: RequestWork, reason: StopReason, failure: BaseException | None) -> StreamChunk | None:
    """Close the books, tell, and give everything back. Once for each request; raises nothing.

    Args:
        work: not ended yet; in the scheduler's thread, or its caller's when it was not submitted.
        reason: why it ends.
        failure: the exception that ends it.

    Returns:
        Text that was held back, for the reader.
    """
    work.stage = Stage.ENDED
    work.failure = work.failure or failure
    rest = ""
    try:
        rest = work.completion.flush()
        if work.completion.stop_sequence is not None and work.failure is None:
            reason = StopReason.STOP_SEQUENCE
        work.ledger.close()
        cache = work.slot.cache if work.lent else None
        kv_tokens, kv_bytes = (0, 0) if cache is None else (cache.length, cache.used_bytes)
        structured = _structured(work, reason)
        work.result = _result(work, reason, structured)
        if isinstance(work.failure, SmallMindError):
            work.failure.details["result"] = work.result
        work.observer.stopped(
            work.result,
            work.failure,
            kv_bytes,
            kv_tokens,
            quality=work.quality,
            non_finite_at=work.non_finite_at,
        )
    except BaseException as error:  # noqa: BLE001 - a fault of ours; the reader is told of it
        work.failure = work.failure or error
    _let_go(work)
    return StreamChunk(rest, None, len(work.completion.token_ids)) if rest else None


def _let_go(work: RequestWork) -> None:
    try:
        if work.lent:
            emitter = work.observer.emitter
            work.store.tell_usage(emitter)
            work.store.give_back(
                work.slot,
                keep=work.request.slot is not None,
                emitter=emitter,
                sound=work.failure is None,
            )
        work.forget_token()
        work.token.close()
    except BaseException as error:  # noqa: BLE001 - as above
        work.failure = work.failure or error


def _structured(work: RequestWork, reason: StopReason) -> Structured | None:
    """What became of the response format, which is told too."""
    structure, observer = work.completion.structure, work.observer
    if structure is None:
        return None
    mask_s = work.ledger.ns(Phase.MASK) / 1e9
    outcome = structure.outcome(work.completion.text, reason, mask_s)
    structure.tell(observer.emitter, work.model.name, outcome)
    if not outcome.complete and status_of(reason) is RequestStatus.COMPLETED:
        observer.degraded(
            DegradeReason.RESPONSE_INCOMPLETE,
            f"the answer ended by {reason.value} before its {outcome.format} was complete",
        )
    return outcome


def _result(
    work: RequestWork, reason: StopReason, structured: Structured | None
) -> GenerationResult:
    completion, model, ledger = work.completion, work.model, work.ledger
    return GenerationResult(
        text=completion.text,
        token_ids=tuple(completion.token_ids),
        stop_reason=reason,
        stop_sequence=completion.stop_sequence,
        usage=Usage(work.prompt_tokens, work.cached_tokens, len(completion.token_ids)),
        timings=Timings(
            total_s=ledger.elapsed_ns / 1e9,
            time_to_first_token_s=completion.ttft_s,
            ledger={Phase(name): seconds for name, seconds in ledger.seconds()},
            decode_steps=completion.decode_steps,
            prefill_tokens=work.computed_tokens,
        ),
        correlation=work.observer.emitter.correlation,
        model=model.name,
        model_fingerprint=model.fingerprint,
        backend=model.runner.backend,
        seed=work.seed,
        logprobs=(None if work.request.options.logprobs is None else tuple(completion.logprobs)),
        structured=structured,
    )
