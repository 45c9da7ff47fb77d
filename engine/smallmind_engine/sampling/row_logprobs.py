"""Log-probabilities of known tokens, many rows of logits at a time."""

# T rows, V vocabulary

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from smallmind_engine.sampling.selection import best_token

_ROWS_AT_ONCE: Final = 16  # the exponentials of so many rows stay in the last-level cache


class RowLogprobs(NamedTuple):
    """What a model gave to tokens that are known.

    Attributes:
        logprobs: natural log-probabilities, shape (T,), float64, <= 0.
        likeliest: ids that the model found likeliest, shape (T,); the lowest among equals.
    """

    logprobs: npt.NDArray[np.float64]
    likeliest: npt.NDArray[np.int64]


def row_logprobs(logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> RowLogprobs:
    """The log-softmax of each row at its target.

    Args:
        logits: the model's own, shape (T, V).
        targets: token ids, shape (T,).

    Raises:
        InferenceError: NaN or +inf among the logits, or a row of -inf.
    """
    likeliest = logits.argmax(axis=1)
    peaks = np.take_along_axis(logits, likeliest[:, None], axis=1)
    if not np.isfinite(peaks).all():
        for row in logits:
            best_token(row)  # says what is wrong, and where
    masses = np.empty(len(logits), np.float64)
    for begin in range(0, len(logits), _ROWS_AT_ONCE):
        rows = slice(begin, begin + _ROWS_AT_ONCE)
        masses[rows] = np.exp(logits[rows] - peaks[rows]).sum(axis=1, dtype=np.float64)
    chosen = np.take_along_axis(logits, targets[:, None], axis=1)[:, 0].astype(np.float64)
    return RowLogprobs((chosen - peaks[:, 0]) - np.log(masses), likeliest)
