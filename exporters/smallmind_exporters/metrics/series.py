"""The numbers behind one series: counters, gauges and histograms. Their owner does the locking."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Protocol, Self

from smallmind_engine.telemetry import ANCHOR, Event
from smallmind_exporters.metrics.family import Family, Gauging, MetricKind


@dataclass(frozen=True, slots=True)
class Exemplar:
    """The trace behind the last value of a bucket.

    Attributes:
        trace_id: W3C trace id.
        span_id: W3C span id.
        value: the value itself.
        wall_s: when it was taken, in seconds since the Unix epoch.
    """

    trace_id: str
    span_id: str
    value: float
    wall_s: float


class Series(Protocol):
    """One series of a family."""

    def add(self, value: float, event: Event | None) -> None:
        """Take a value that ``event`` brought; finite and not negative."""
        ...

    def merge(self, other: Self) -> None:
        """Take in the same series of another engine."""
        ...

    def copy(self) -> Self:
        """A copy that later values do not change."""
        ...


class Counter:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self, value: float = 0) -> None:
        self.value = value

    def add(self, value: float, event: Event | None) -> None:  # noqa: ARG002 - Series
        """Count ``value`` more."""
        self.value += value

    def merge(self, other: Self) -> None:
        """Add the two up."""
        self.value += other.value

    def copy(self) -> Self:
        """The number now."""
        return type(self)(self.value)


class Gauge:
    """A number that stands for the state now: the latest reading, or the largest."""

    __slots__ = ("maximum", "sequence", "summed", "value")

    def __init__(self, *, maximum: bool = False, summed: bool = True) -> None:
        self.maximum = maximum
        self.summed = summed
        self.value: float = 0
        self.sequence = 0

    def add(self, value: float, event: Event | None) -> None:
        """Take a reading, unless a newer one (events of threads may overtake) or larger is here."""
        sequence = event.sequence if event is not None else self.sequence
        if self.maximum:
            value = max(value, self.value)
        elif sequence < self.sequence:
            return
        self.value = value
        self.sequence = max(sequence, self.sequence)

    def merge(self, other: Self) -> None:
        """Add the two up, or keep the newer one."""
        if self.summed:
            self.value += other.value
        elif other.sequence >= self.sequence:
            self.value = other.value
        self.sequence = max(other.sequence, self.sequence)

    def copy(self) -> Self:
        """The reading now."""
        twin = type(self)(maximum=self.maximum, summed=self.summed)
        twin.value, twin.sequence = self.value, self.sequence
        return twin


class Histogram:
    """Counts of values by bucket.

    Attributes:
        bounds: upper bounds of the buckets, inclusive, ascending, without infinity.
        counts: values in each bucket, not cumulative; the last bucket reaches to infinity.
        total: sum of the values.
        exemplars: last exemplar of each bucket; None when the family has none.
    """

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...], *, exemplars: bool = False) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: list[Exemplar | None] | None = (
            [None] * len(self.counts) if exemplars else None
        )

    def add(self, value: float, event: Event | None) -> None:
        """Count ``value`` in its bucket; remember its trace when that one is sampled."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.total += value
        if self.exemplars is not None and event is not None and event.correlation.trace_flags & 1:
            ids = event.correlation
            wall_s = ANCHOR.to_wall_ns(event.time_ns) / 1e9
            self.exemplars[bucket] = Exemplar(ids.trace_id, ids.span_id, value, wall_s)

    def merge(self, other: Self) -> None:
        """Add the two up, bucket by bucket, with the newer exemplars."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total
        if self.exemplars is not None and other.exemplars is not None:
            self.exemplars = [
                max((a, b), key=lambda exemplar: exemplar.wall_s if exemplar else -1.0)
                for a, b in zip(self.exemplars, other.exemplars, strict=True)
            ]

    def copy(self) -> Self:
        """The counts now."""
        twin = type(self)(self.bounds)
        twin.counts = self.counts.copy()
        twin.total = self.total
        twin.exemplars = None if self.exemplars is None else self.exemplars.copy()
        return twin


def new_series(family: Family) -> Series:
    """An empty series of ``family``."""
    if family.kind is MetricKind.HISTOGRAM:
        return Histogram(family.buckets, exemplars=family.exemplars)
    if family.kind is MetricKind.COUNTER:
        return Counter()
    return Gauge(maximum=family.gauging is Gauging.MAXIMUM, summed=family.summed)
