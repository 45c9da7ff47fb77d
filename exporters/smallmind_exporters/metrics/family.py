"""What a row of the table of metrics consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar

from smallmind_engine.telemetry import Event, ExporterHealth

_E = TypeVar("_E", bound=Event)


class MetricKind(StrEnum):
    """What a family counts with."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


CUMULATIVE: Final = frozenset({MetricKind.COUNTER, MetricKind.HISTOGRAM})


class Gauging(StrEnum):
    """How a gauge takes its readings."""

    LATEST = "latest"
    MAXIMUM = "maximum"


class Stability(StrEnum):
    """What may be relied on.

    ``stable``: name, unit and labels change only after a version in which the metric is
    deprecated. ``development``: they may change in any version.
    """

    STABLE = "stable"
    DEVELOPMENT = "development"
    DEPRECATED = "deprecated"


class Stage(StrEnum):
    """Where a request can be, for the gauges that count requests."""

    WAITING = "waiting"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and the values it can have.

    Attributes:
        name: as Prometheus shows it.
        meaning: for the reference page.
        values: the values known beforehand; series of counters and histograms exist for each of
            them from the start, at zero.
        limit: how many distinct values it may have, ``values`` included; what comes later is
            counted under ``_other``. None for a label whose values are all of one enum, which
            is limit enough.
    """

    name: str
    meaning: str
    values: tuple[str, ...] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How one type of event moves one family.

    At most one of ``value`` and ``rows`` is set; without either, each event counts as one.

    Attributes:
        event: the type of event.
        value: the number to take; None when there is none.
        rows: the values of the labels after ``model``, each with its number.
        values: the values of the labels after ``model``, where there is one number.
    """

    event: type[Event]
    value: Callable[[Any], float | None] | None = None
    rows: Callable[[Any], Iterable[tuple[tuple[str, ...], float]]] | None = None
    values: tuple[str, ...] = ()


def count(event: type[Event]) -> Reading:
    """Each event counts as one, for a counter whose only label is the model."""
    return Reading(event)


def one(event: type[_E], value: Callable[[_E], float | None], *values: str) -> Reading:
    """A reading of one number, for the series with these values of the labels after the model."""
    return Reading(event, value=value, values=values)


def rows(event: type[_E], read: Callable[[_E], Iterable[tuple[tuple[str, ...], float]]]) -> Reading:
    """A reading of any number of rows of label values (after the model) and numbers."""
    return Reading(event, rows=read)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family:
    """One metric: what it is called, what it counts, and where its numbers come from.

    Families are compared by identity: they are the rows of one table.

    Attributes:
        name: without the prefix; with unit and, for counters, ``_total``.
        kind: counter, gauge, histogram or info.
        help: one sentence, shown by Prometheus and on the reference page.
        unit: base unit in the plural; empty for plain counts.
        labels: in the order in which rows give their values; ``model`` first when there.
        buckets: upper bounds of a histogram, ascending, without infinity.
        readings: how events move it.
        combinations: label values (after the model) that exist together from the start; None
            means every combination of the labels' values.
        gauging: how a gauge takes its readings.
        summed: whether the readings of several engines in one process add up; else the newest
            one counts.
        stage: for gauges that count requests: those at this stage.
        health: for counters of the bus itself: the number in an exporter's health.
        exemplars: whether buckets remember the trace of their last value.
        convention: the metric of the OpenTelemetry GenAI conventions that it stands for; its
            buckets are then an exact prefix of ours.
        otel: its OpenTelemetry name after ``smallmind.``, where the one that follows from
            ``name`` would not do; see ``otel_name``.
        annotation: what is counted, as OpenTelemetry writes it in its unit; only where ``unit``
            is empty: ``{request}``, ``By/s``.
        stability: what may be relied on.
        since: the version it came with.
    """

    name: str
    kind: MetricKind
    help: str
    unit: str = ""
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    readings: tuple[Reading, ...] = ()
    combinations: tuple[tuple[str, ...], ...] | None = None
    gauging: Gauging = Gauging.LATEST
    summed: bool = True
    stage: Stage | None = None
    health: Callable[[ExporterHealth], float] | None = None
    exemplars: bool = False
    convention: str = ""
    otel: str = ""
    annotation: str = ""
    stability: Stability = Stability.STABLE
    since: str = "0.1.0"

    @property
    def per_model(self) -> bool:
        """Whether its first label is the model."""
        return bool(self.labels) and self.labels[0].name == "model"

    @property
    def free_labels(self) -> tuple[Label, ...]:
        """The labels after the model."""
        return self.labels[1:] if self.per_model else self.labels
