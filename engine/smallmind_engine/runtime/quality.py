"""The quality signals of one request: each token's, and their means."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.sampling import Confidence, ConfidenceMeter, Sampler

REPETITION_WINDOW: Final = 64
MEANS: Final = ("entropy", "logprob", "rank", "margin", "removed_mass", "repetition")


class RepetitionShare:
    """How many of the last tokens are repeats of others among them."""

    __slots__ = ("_counts", "_recent")

    def __init__(self) -> None:
        self._recent: deque[int] = deque()
        self._counts: Counter[int] = Counter()

    def add(self, token_id: int) -> float:
        """Take a token; answers the share, from 0 to below 1."""
        recent, counts = self._recent, self._counts
        recent.append(token_id)
        counts[token_id] += 1
        if len(recent) > REPETITION_WINDOW:
            oldest = recent.popleft()
            counts[oldest] -= 1
            if not counts[oldest]:
                del counts[oldest]
        return 1.0 - len(counts) / len(recent)


class QualityMeter:
    """Measures the tokens of one request, and adds them up.

    Args:
        vocab_size: number of logits in a row.
    """

    __slots__ = ("_confidence", "_count", "_repetition", "_sums")

    def __init__(self, vocab_size: int) -> None:
        self._confidence = ConfidenceMeter(vocab_size)
        self._repetition = RepetitionShare()
        self._sums = [0.0] * len(MEANS)
        self._count = 0

    def measure(
        self, logits: npt.NDArray[np.float32], token_id: int, sampler: Sampler
    ) -> tuple[Confidence, float]:
        """What the row says of the chosen token, and the share of repetitions."""
        found = self._confidence.measure(logits, token_id, sampler.kept)
        repetition = self._repetition.add(token_id)
        self._count += 1
        for index, value in enumerate((*found, repetition)):
            self._sums[index] += value
        return found, repetition

    @property
    def means(self) -> tuple[tuple[str, float], ...]:
        """The mean of each signal over the tokens, by name; empty before the first."""
        count = self._count
        if not count:
            return ()
        return tuple((name, total / count) for name, total in zip(MEANS, self._sums, strict=True))
