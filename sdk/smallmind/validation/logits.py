"""Logits of a model, computed beside the scheduler in caches of their own."""

# T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.kernels import Chunk, FloatArray, LogitsWanted
from smallmind_engine.model import LoadedModel

_ROWS_AT_ONCE = 64


def all_logits(model: LoadedModel, ids: Sequence[int], limit: WorkLimit = NO_LIMIT) -> FloatArray:
    """Logits after each token of ``ids``, shape (T, V), from one step over all of them."""
    cache = model.runner.new_cache(len(ids))
    chunk = Chunk(np.asarray(ids, np.int64), cache, LogitsWanted.ALL)
    (logits,) = model.runner.forward([chunk], limit=limit)
    none = np.empty((0, model.spec.vocab_size), np.float32)
    return logits if isinstance(logits, np.ndarray) else none


def logits_in_pieces(
    model: LoadedModel, ids: Sequence[int], limit: WorkLimit = NO_LIMIT
) -> Iterator[FloatArray]:
    """The same rows, a few at a time, for texts whose logits would take much memory."""
    cache = model.runner.new_cache(len(ids))
    for begin in range(0, len(ids), _ROWS_AT_ONCE):
        known = np.asarray(ids[begin : begin + _ROWS_AT_ONCE], np.int64)
        (logits,) = model.runner.forward([Chunk(known, cache, LogitsWanted.ALL)], limit=limit)
        if isinstance(logits, np.ndarray):
            yield logits


def stepwise_logits(
    model: LoadedModel,
    prompt_ids: Sequence[int],
    ids: Sequence[int],
    limit: WorkLimit = NO_LIMIT,
) -> Iterator[FloatArray]:
    """Logits after the prompt, and after each of ``ids`` but the last, through the KV cache."""
    cache = model.runner.new_cache(len(prompt_ids) + len(ids))
    for tokens in (prompt_ids, *([token] for token in ids[:-1])):
        chunk = Chunk(np.asarray(tokens, np.int64), cache, LogitsWanted.LAST)
        (logits,) = model.runner.forward([chunk], limit=limit)
        if isinstance(logits, np.ndarray):
            yield logits


def log_normalisers(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Logarithm of the sum of exponentials of each row: shape (T, V) to (T,), float64."""
    highest = logits.max(axis=-1, keepdims=True)
    sums = np.exp(logits - highest).sum(axis=-1, dtype=np.float64)
    return np.asarray(highest[:, 0] + np.log(sums))
