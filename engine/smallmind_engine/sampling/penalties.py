"""What changes the scores before the filters: logit bias, and penalties on what was seen."""

from __future__ import annotations

from collections import deque

import numpy as np

from smallmind_engine.sampling.filters import Floats
from smallmind_engine.sampling.options import SamplingOptions
from smallmind_engine.sampling.selection import Ids, Scores

_LARGEST = float(np.finfo(np.float32).max)


class SeenTokens:
    """How often each token occurs among the last ``window`` ones; -1 forgets nothing."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._recent: deque[int] = deque()
        self._counts: dict[int, int] = {}

    def add(self, token_id: int) -> None:
        """Count ``token_id``, and forget the one that leaves the window."""
        self._counts[token_id] = self._counts.get(token_id, 0) + 1
        if self._window < 0:
            return
        self._recent.append(token_id)
        if len(self._recent) > self._window:
            oldest = self._recent.popleft()
            self._counts[oldest] -= 1
            if self._counts[oldest] == 0:
                del self._counts[oldest]

    def counts(self) -> tuple[Ids, Floats]:
        """The ids that were seen and how often each, two arrays of the same length."""
        size = len(self._counts)
        ids = np.fromiter(self._counts.keys(), np.intp, size)
        return ids, np.fromiter(self._counts.values(), np.float64, size)


def add_bias(scores: Scores, ids: Ids, biases: Floats) -> None:
    """Add ``biases`` to the scores of ``ids``, in place."""
    _store(scores, ids, scores[ids] + biases)


def penalize(scores: Scores, ids: Ids, counts: Floats, options: SamplingOptions) -> None:
    """Lower the scores of ``ids``, each seen ``counts`` times, in place.

    The repetition penalty comes first, then frequency and presence, as in llama.cpp.

    Source: Keskar et al. 2019, "CTRL" (arXiv:1909.05858), section 4.1, with scores that are not
    positive multiplied so that they fall too; frequency and presence as in the OpenAI API
    reference: ``logit - count * frequency_penalty - (count > 0) * presence_penalty``.
    """
    logits = scores[ids].astype(np.float64)
    factor = options.repetition_penalty
    with np.errstate(over="ignore"):
        logits = np.where(logits > 0.0, logits / factor, logits * factor)
        logits -= counts * options.frequency_penalty + options.presence_penalty
    _store(scores, ids, logits)


def _store(scores: Scores, ids: Ids, changed: Floats) -> None:
    """Write back to float32; what became too large stays finite, and -inf stays a mask."""
    with np.errstate(over="ignore"):
        scores[ids] = np.minimum(changed, _LARGEST)
