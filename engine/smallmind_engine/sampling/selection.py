"""Finding the highest scores of a large vocabulary, and refusing scores that are none."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from smallmind_engine.telemetry.errors import ConfigError, InferenceError
from smallmind_engine.telemetry.reasons import ReasonCode

Ids: TypeAlias = npt.NDArray[np.intp]
Scores: TypeAlias = npt.NDArray[np.float32]  # (V,): logits, or logits after bias and penalties

_GROUPS_PER_KEPT: Final = 8  # more groups: a tighter bound, but more maxima to partition
_MIN_GROUP_SIZE: Final = 4  # below this the maxima are no shortcut


def as_scores(logits: npt.ArrayLike, vocab_size: int) -> Scores:
    """``logits`` as float32 of shape ``(vocab_size,)``; no copy when it is that already.

    Raises:
        ConfigError: another shape.
    """
    scores = np.asarray(logits, dtype=np.float32)
    if scores.shape != (vocab_size,):
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"logits have the shape {scores.shape}, but the vocabulary needs ({vocab_size},)",
            hint="pass the last row of the model's output, one score for each token",
            shape=scores.shape,
        )
    return scores


def best_token(scores: Scores) -> int:
    """The id of the highest score, the lowest one on ties.

    Raises:
        InferenceError: NaN or +inf among the scores, or all of them masked with -inf.
    """
    best = int(scores.argmax())  # the first NaN, when there is one
    value = scores[best]
    if not value < np.inf:
        broken = int(np.count_nonzero(~(scores < np.inf)))
        raise InferenceError(
            ReasonCode.NON_FINITE_LOGITS,
            f"the score of token {best} is {value}: {broken} of {scores.size} are NaN or +inf",
            hint="the model's weights or activations are damaged; -inf alone would be a mask",
            token_id=best,
            count=broken,
        )
    if value == -np.inf:
        raise InferenceError(
            ReasonCode.NON_FINITE_LOGITS,
            f"all {scores.size} tokens are masked: every score is -inf, so there is none to choose",
            hint="allow at least one token in logit_bias, of those that a response_format allows",
            count=scores.size,
        )
    return best


def highest(values: npt.NDArray[Any], count: int) -> Ids:
    """The indices of the ``count`` highest values, ascending; of equal values the first ones.

    Hot path: one pass over the maxima of interleaved groups gives a bound that at least ``count``
    values reach, so that only those few are partitioned. On 262,144 float32 that takes a
    twentieth of ``np.argpartition`` over all of them (``tests/benchmarks/bench_sampling.py``).

    Args:
        values: shape ``(n,)``, no NaN.
        count: how many, from 0; all of them when there are no more.
    """
    if count == 0 or count >= values.size:
        return np.arange(values.size if count else 0)
    pool: Ids = np.flatnonzero(values >= _bound_reached_by(values, count))
    pooled = values[pool]
    threshold = np.partition(pooled, pooled.size - count)[pooled.size - count]
    kept: npt.NDArray[np.bool_] = pooled > threshold
    tied = np.flatnonzero(pooled == threshold)
    kept[tied[: count - np.count_nonzero(kept)]] = True
    return np.asarray(pool[kept])


def _bound_reached_by(values: npt.NDArray[Any], count: int) -> Any:
    """A value that at least ``count`` of ``values`` reach, and seldom many more."""
    groups = _GROUPS_PER_KEPT * count
    rows = values.size // groups
    if rows < _MIN_GROUP_SIZE:
        return values.min()
    maxima = values[: rows * groups].reshape(rows, groups).max(axis=0)
    return np.partition(maxima, groups - count)[groups - count]
