"""The filters of the chain: plain functions from candidates to fewer candidates.

Each keeps at least one candidate. Candidates are ordered by id at every step, so what is drawn
depends on which tokens are left and on nothing else.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from smallmind_engine.sampling.selection import Ids, Scores, highest

Floats: TypeAlias = npt.NDArray[np.float64]

_PIECE: Final = 4096  # float64 numbers, 32 KiB: fits the first-level cache


class Candidates(NamedTuple):
    """Tokens that may still be drawn, N of them, at least one.

    Attributes:
        ids: shape ``(N,)``, ascending.
        logits: shape ``(N,)``, float64, finite.
    """

    ids: Ids
    logits: Floats

    def only(self, kept: npt.NDArray[np.bool_] | Ids) -> Candidates:
        """Those that ``kept`` marks: a mask, or ascending indices."""
        return Candidates(self.ids[kept], self.logits[kept])


def keep_top_k(scores: Scores, k: int) -> Candidates:
    """The ``k`` highest scores of the vocabulary, or all when ``k`` is 0; never a masked one.

    Args:
        scores: shape ``(V,)``; -inf masks a token. At least one is finite, none is NaN or +inf.
        k: how many; of equal scores the lower ids are kept.
    """
    if k == 0:
        ids = np.flatnonzero(scores > -np.inf)
        return Candidates(ids, scores[ids].astype(np.float64))
    ids = highest(scores, k)
    found = Candidates(ids, scores[ids].astype(np.float64))
    return found.only(found.logits > -np.inf)


def keep_typical(candidates: Candidates, p: float) -> Candidates:
    """Those whose surprise is nearest to the entropy, until their mass exceeds ``p``.

    Source: Meister et al. 2022, "Locally Typical Sampling" (arXiv:2202.00666), section 4.
    """
    if p >= 1.0:
        return candidates
    peak, log_mass = peak_and_log_mass(candidates.logits)
    surprise = log_mass - (candidates.logits - peak)
    probabilities = np.exp(-surprise)
    entropy = float(probabilities @ surprise)
    distance = np.abs(surprise - entropy)
    # As in keep_top_p, the unlikeliest seldom matter: what is nearer than they are comes first,
    # and when that exceeds p already, nothing else needs sorting.
    near = np.flatnonzero(distance < math.log(surprise.size / (1.0 - p)) - entropy)
    if not probabilities[near].sum() > p:
        near = np.arange(surprise.size)
    nearest_first = near[np.argsort(distance[near], kind="stable")]
    mass = np.cumsum(probabilities[nearest_first])
    count = int(np.searchsorted(mass, p, side="right")) + 1
    return candidates.only(np.sort(nearest_first[:count]))


def keep_top_p(candidates: Candidates, p: float) -> Candidates:
    """The fewest of the likeliest candidates whose mass is ``p`` or more.

    Source: Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration"
    (arXiv:1904.09751), section 3.1.
    """
    if p >= 1.0:
        return candidates
    peak, log_mass = peak_and_log_mass(candidates.logits)
    # All candidates below (1 - p) / N together hold less than 1 - p: the rest reaches p without
    # them, and they need neither exp nor sorting.
    floor = peak + log_mass + math.log((1.0 - p) / candidates.ids.size)
    likely = candidates.only(candidates.logits >= min(floor, peak))
    probabilities = np.exp(likely.logits - peak - log_mass)
    mass = np.cumsum(np.sort(probabilities)[::-1])
    count = int(np.searchsorted(mass, p, side="left")) + 1
    # By logits: those of nearly equal tokens differ where their probabilities round to one number.
    return likely.only(highest(likely.logits, count))


def keep_min_p(candidates: Candidates, p: float) -> Candidates:
    """Those at least ``p`` times as likely as the likeliest.

    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling" (arXiv:2407.01082).
    """
    if p <= 0.0:
        return candidates
    return candidates.only(candidates.logits >= candidates.logits.max() + math.log(p))


def draw(candidates: Candidates, temperature: float, uniform: float) -> int:
    """The id that ``uniform`` falls on when each candidate gets its share of 0..1, ids ascending.

    Args:
        candidates: those that are left.
        temperature: > 0; divides the logits.
        uniform: from 0 to below 1.
    """
    shares = candidates.logits - candidates.logits.max()
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, which is a share of nothing
        np.divide(shares, temperature, out=shares)
    np.exp(shares, out=shares)
    ends = np.cumsum(shares)
    # No number below 1 reaches the last end, not even rounded: nothing without a share is drawn.
    return int(candidates.ids[np.searchsorted(ends, uniform * ends[-1], side="right")])


def peak_and_log_mass(logits: npt.NDArray[np.floating]) -> tuple[float, float]:
    """The highest logit, and the logarithm of the sum of ``exp(logits - peak)``, in float64.

    The log-probability of a token is ``(logit - peak) - log_mass``: the two are kept apart so that
    nothing is lost when the logits are large. -inf entries add nothing.

    Hot path for log-probabilities: in pieces, because a temporary that leaves the CPU's cache
    costs four times as much as the exponentials.
    """
    peak = float(logits.max())
    mass = 0.0
    for start in range(0, logits.size, _PIECE):
        piece = np.subtract(logits[start : start + _PIECE], peak, dtype=np.float64)
        mass += float(np.exp(piece, out=piece).sum())
    return peak, math.log(mass)
