"""Distributions of durations: exact percentiles, and bins that a histogram is drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PERCENTILES: Final = (50, 90, 95, 99)
_BINS: Final = 40
_ENDLESS_S: Final = 1e12


@dataclass(frozen=True, slots=True)
class Bin:
    """How many durations lie from ``low_s`` (inclusive) to ``high_s``."""

    low_s: float
    high_s: float
    count: int


@dataclass(frozen=True, slots=True)
class Durations:
    """A set of durations.

    Attributes:
        count: how many.
        mean_s: their mean; 0.0 when there is none, as all figures.
        min_s: the shortest.
        max_s: the longest.
        percentiles_s: by percentile, with linear interpolation between the two nearest.
        bins: of equal width on a logarithmic scale.
    """

    count: int
    mean_s: float
    min_s: float
    max_s: float
    percentiles_s: dict[int, float]
    bins: tuple[Bin, ...]

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Durations:
        """Of these durations; those that cannot be, negative or endless, are left out."""
        ordered = sorted(each for each in seconds if 0.0 <= each < _ENDLESS_S)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0, dict.fromkeys(PERCENTILES, 0.0), ())
        return cls(
            count=len(ordered),
            mean_s=math.fsum(ordered) / len(ordered),
            min_s=ordered[0],
            max_s=ordered[-1],
            percentiles_s={each: _percentile(ordered, each / 100) for each in PERCENTILES},
            bins=_bins(ordered),
        )


def _percentile(ordered: list[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _bins(ordered: list[float]) -> tuple[Bin, ...]:
    shortest = max(ordered[0], 1e-6)  # a microsecond: what is shorter goes into the first bin
    longest = max(ordered[-1], shortest * 1.001)
    step = math.log(longest / shortest) / _BINS
    counts = [0] * _BINS
    for each in ordered:
        place = math.log(max(each, shortest) / shortest) / step
        counts[min(int(place), _BINS - 1)] += 1
    bounds = [shortest * math.exp(step * n) for n in range(_BINS + 1)]
    return tuple(
        Bin(low, high, count) for low, high, count in zip(bounds, bounds[1:], counts, strict=False)
    )
