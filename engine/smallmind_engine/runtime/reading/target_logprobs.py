"""Log-probabilities of tokens that are already there, step by step through a cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from smallmind_engine.cache import KVCache
from smallmind_engine.kernels import Chunk, IntArray, LogitsWanted
from smallmind_engine.memory import MemoryCategory
from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.reading.model_work import ModelWork, status_of_error
from smallmind_engine.sampling import RowLogprobs, row_logprobs
from smallmind_engine.telemetry import (
    EventKind,
    LogLevel,
    RequestStatus,
    RuntimeLogEvent,
)

_LOGIT_BYTES_AT_ONCE: Final = 32 << 20

_LEVELS: Final[Mapping[RequestStatus, LogLevel]] = {
    RequestStatus.COMPLETED: LogLevel.INFO,
    RequestStatus.CANCELLED: LogLevel.INFO,
    RequestStatus.REJECTED: LogLevel.WARN,
    RequestStatus.FAILED: LogLevel.ERROR,
}


def target_logprobs(
    core: EngineCore, work: ModelWork, cache: KVCache, ids: Sequence[int], first: int
) -> RowLogprobs:
    """What the model gives each token from the place ``first`` on, given those before it.

    Args:
        core: the engine.
        work: in its turn.
        cache: with room for all of ``ids``; may hold some of those before ``first``, but not the
            last of them.
        ids: T tokens.
        first: 1 to T - 1.

    Returns:
        T - first of each.

    Raises:
        MemoryBudgetError: not even one row of logits fits the budget.
        OperationCancelledError: the limit was reached.
        InferenceError: the model gave no finite scores.
    """
    runner, vocab_size = core.model.runner, core.model.spec.vocab_size
    tokens = np.asarray(ids, np.int64)
    row_bytes = vocab_size * np.dtype(np.float32).itemsize
    most_bytes = min(_LOGIT_BYTES_AT_ONCE, core.budget.free_bytes or _LOGIT_BYTES_AT_ONCE)
    rows_at_once = max(1, min(runner.prefill_chunk, most_bytes // row_bytes))
    granted = core.budget.reserve(
        MemoryCategory.SCRATCH, rows_at_once * row_bytes, work.emitter, hint="raise the budget"
    )
    try:
        return _in_pieces(core, work, cache, tokens, first, rows_at_once)
    finally:
        core.budget.release(MemoryCategory.SCRATCH, granted)


def _in_pieces(
    core: EngineCore,
    work: ModelWork,
    cache: KVCache,
    tokens: IntArray,
    first: int,
    rows_at_once: int,
) -> RowLogprobs:
    runner = core.model.runner
    begin, last = cache.length, len(tokens) - 1  # what follows the last token is nobody's question
    while begin < first - 1:
        end = min(begin + runner.prefill_chunk, first - 1)
        work.forward([Chunk(tokens[begin:end], cache, LogitsWanted.NONE)])
        begin = end
    parts: list[RowLogprobs] = []
    while begin < last:
        end = min(begin + rows_at_once, last)
        (logits,) = work.forward([Chunk(tokens[begin:end], cache, LogitsWanted.ALL)])
        if isinstance(logits, np.ndarray):
            parts.append(row_logprobs(logits, tokens[begin + 1 : end + 1]))
        begin = end
    return RowLogprobs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@contextmanager
def told(core: EngineCore, work: ModelWork, message: str) -> Iterator[None]:
    """Log how the work inside the ``with`` block ended, and close it."""
    with work.begun(), _told(core, work, message):
        yield


@contextmanager
def _told(core: EngineCore, work: ModelWork, message: str) -> Iterator[None]:
    failure: BaseException | None = None
    try:
        yield
    except BaseException as error:
        failure = error
        raise
    finally:
        emitter = work.emitter
        if emitter.wants & EventKind.LOG:
            status, reason = status_of_error(failure)
            emitter.publish(
                RuntimeLogEvent(
                    *emitter.header(),
                    level=_LEVELS[status],
                    component="runtime",
                    message=message,
                    reason=reason,
                    error=None if failure is None else type(failure).__name__,
                    key1="model",
                    value1=core.model.name,
                    key2="status",
                    value2=status.value,
                    key3="duration_s",
                    value3=round(work.elapsed_s, 6),
                )
            )
        work.close()
