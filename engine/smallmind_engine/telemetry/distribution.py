"""Distributions of seconds in bounded memory: exact at first, then to within one percent."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

EXACT_SAMPLES: Final = 8192
RELATIVE_ERROR: Final = 0.01

_NS_PER_S: Final = 1_000_000_000
_GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GAMMA: Final = math.log(_GAMMA)
# Buckets reach from a nanosecond to some 31 years; what lies outside goes into the end ones.
_BUCKETS: Final = math.ceil(math.log(1e18) / _LOG_GAMMA) + 1


@dataclass(frozen=True, slots=True)
class Distribution:
    """What is known of a set of durations. All are 0.0 when there is none.

    Attributes:
        count: how many there were.
        mean_s: exact, to the nanosecond.
        min_s: exact.
        max_s: exact.
        p50_s: median, with linear interpolation between the two nearest while ``exact``.
        p95_s: 95th percentile, likewise.
        p99_s: 99th percentile, likewise.
        exact: whether the percentiles are computed from all values (up to 8192 of them); if not,
            each is within one percent of the value at its rank.
    """

    count: int = 0
    mean_s: float = 0.0
    min_s: float = 0.0
    max_s: float = 0.0
    p50_s: float = 0.0
    p95_s: float = 0.0
    p99_s: float = 0.0
    exact: bool = True


class DurationSamples:
    """Collects durations. Not thread-safe: its owner holds a lock.

    Keeps all values up to ``EXACT_SAMPLES``, then counts them in buckets whose bounds grow by a
    constant factor. At most 64 KiB of values, or 17 KiB of counts.

    Source: Masson, Rim & Lee 2019, "DDSketch", section 2.1 (the bucket of a value, and the bound
    of the relative error).
    """

    __slots__ = ("_buckets", "_count", "_max_s", "_min_s", "_sum_ns", "_values")

    def __init__(self) -> None:
        self._values: array[float] | None = array("d")
        self._buckets: array[int] | None = None
        self._count = 0
        # Whole nanoseconds add up to the same sum in whatever order threads come.
        self._sum_ns = 0
        self._min_s = math.inf
        self._max_s = 0.0

    def add(self, seconds: float) -> None:
        """Add one duration, finite and not negative."""
        nanoseconds = round(seconds * _NS_PER_S)
        # No call stands between the reading of a number and its writing: another addition may
        # come in at a call, when the garbage collector closes a stream there.
        self._count += 1
        self._sum_ns += nanoseconds
        if seconds < self._min_s:  # noqa: PLR1730 - min() is a call
            self._min_s = seconds
        if seconds > self._max_s:  # noqa: PLR1730 - max() is a call
            self._max_s = seconds
        if self._buckets is not None:
            self._buckets[_bucket(seconds)] += 1
        elif self._values is not None:
            self._values.append(seconds)
            if len(self._values) > EXACT_SAMPLES:
                self._buckets = array("q", bytes(8 * _BUCKETS))
                for value in self._values:
                    self._buckets[_bucket(value)] += 1
                self._values = None

    def add_all(self, durations: Sequence[float]) -> None:
        """Add several, for a fraction of what as many calls of ``add`` take."""
        if not durations:
            return
        count, least, most = len(durations), min(durations), max(durations)
        nanoseconds = sum([round(seconds * _NS_PER_S) for seconds in durations])
        values = self._values
        if values is None or len(values) + count > EXACT_SAMPLES:
            for seconds in durations:
                self.add(seconds)
            return
        values.extend(durations)
        self._count += count  # as in ``add``, there is no call here
        self._sum_ns += nanoseconds
        if least < self._min_s:  # noqa: PLR1730 - min() is a call
            self._min_s = least
        if most > self._max_s:  # noqa: PLR1730 - max() is a call
            self._max_s = most

    def copy(self) -> DurationSamples:
        """The same, independent of later additions."""
        twin = DurationSamples()
        twin._values = self._values[:] if self._values is not None else None
        twin._buckets = self._buckets[:] if self._buckets is not None else None
        twin._count = self._count
        twin._sum_ns = self._sum_ns
        twin._min_s = self._min_s
        twin._max_s = self._max_s
        return twin

    def summary(self) -> Distribution:
        """What is known of the durations so far."""
        if not self._count:
            return Distribution()
        p50_s, p95_s, p99_s = self._quantiles((0.50, 0.95, 0.99))
        return Distribution(
            self._count,
            self._sum_ns / self._count / _NS_PER_S,
            self._min_s,
            self._max_s,
            p50_s,
            p95_s,
            p99_s,
            self._buckets is None,
        )

    def _quantiles(self, shares: tuple[float, ...]) -> list[float]:
        if self._buckets is None:
            ordered = sorted(self._values or ())
            return [_interpolated(ordered, share) for share in shares]
        return [
            min(
                max(_in_buckets(self._buckets, share * (self._count - 1)), self._min_s), self._max_s
            )
            for share in shares
        ]


def _bucket(seconds: float) -> int:
    nanoseconds = seconds * _NS_PER_S
    if nanoseconds <= 1.0:
        return 0
    return min(math.ceil(math.log(nanoseconds) / _LOG_GAMMA), _BUCKETS - 1)


def _in_buckets(buckets: array[int], rank: float) -> float:
    """The middle of the bucket that holds the value of ``rank``, counted from 0."""
    seen = 0
    index = 0
    for index, count in enumerate(buckets):  # noqa: B007 - used after the loop
        seen += count
        if seen > rank:
            break
    return 2 * _GAMMA**index / (_GAMMA + 1) / _NS_PER_S


def _interpolated(ordered: list[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)
