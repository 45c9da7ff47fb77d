"""The one collector of ours in a registry: renders the numbers of its engines when scraped.

Imported when an exporter is made, because it needs ``prometheus_client``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import CollectorRegistry

from smallmind_engine.telemetry import ExporterHealth, ReasonCode, renew_in_child
from smallmind_engine.telemetry.errors import ExporterError
from smallmind_exporters.metrics import (
    FAMILIES,
    PREFIX,
    Counter,
    Family,
    Gauge,
    Histogram,
    MetricKind,
    MetricStore,
    Series,
)
from smallmind_exporters.metrics import Exemplar as TraceExemplar
from smallmind_exporters.metrics.family import CUMULATIVE
from smallmind_exporters.metrics.store import Snapshot, merge

HealthSource = Callable[[], Iterable[ExporterHealth]]
_Rows = dict[tuple[str, ...], Series]

_FAMILY_TYPES: Final[dict[MetricKind, Callable[..., Metric]]] = {
    MetricKind.COUNTER: CounterMetricFamily,
    MetricKind.GAUGE: GaugeMetricFamily,
    MetricKind.HISTOGRAM: HistogramMetricFamily,
}


class EnginesCollector:
    """Shows the engines of one registry together: their numbers add up.

    What a closed engine counted stays counted, so that counters never go back; its gauges go.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._engines: dict[MetricStore, list[HealthSource]] = {}
        self._closed: Snapshot = {}
        self._health_failures = 0
        renew_in_child(self)

    def attach(self, store: MetricStore) -> None:
        """Show the numbers of one more engine."""
        with self._lock:
            self._engines[store] = []

    def bind_health(self, store: MetricStore, health: HealthSource) -> None:
        """Ask ``health`` too, at each scrape, how the exporters of a bus fare."""
        with self._lock:
            sources = self._engines.get(store, [])
            if health not in sources:
                sources.append(health)

    def _health_rows(self, source: HealthSource) -> Snapshot:
        """What ``source`` tells; its own failure counts as one, and never fails the scrape."""
        try:
            return _rows_of_health(source())
        except Exception:  # noqa: BLE001 - one raising collector would fail everyone's scrape
            self._health_failures += 1
            failed = ExporterHealth(
                "prometheus", attached=True, errors=self._health_failures, dropped=0, last_error=""
            )
            return _rows_of_health((failed,))

    def detach(self, store: MetricStore) -> None:
        """Keep what the engine counted, and let go of it."""
        with self._lock:
            if self._engines.pop(store, None) is None:
                return
            counted = {
                family: rows
                for family, rows in store.snapshot().items()
                if family.kind in CUMULATIVE
            }
            merge(self._closed, counted)

    def begin_in_child(self) -> None:
        """Begin anew, as in a forked child."""
        self._lock = threading.RLock()
        self._closed = {}

    def describe(self) -> Iterator[Metric]:
        """The families without their numbers, for the registry's check on duplicate names."""
        return (_empty(family) for family in FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """The families with their numbers at one moment. Changes nothing."""
        with self._lock:
            engines = tuple(self._engines.items())
            snapshots = [store.snapshot() for store, _ in engines]
            total: Snapshot = {}
            merge(total, {family: _copies(rows) for family, rows in self._closed.items()})
            for snapshot in snapshots:
                merge(total, snapshot)
            for _, sources in engines:
                for health in tuple(sources):
                    merge(total, self._health_rows(health))
        return (_render(family, total.get(family, {})) for family in FAMILIES)


def _copies(rows: _Rows) -> _Rows:
    return {values: series.copy() for values, series in rows.items()}


def _rows_of_health(known: Iterable[ExporterHealth]) -> Snapshot:
    snapshot: Snapshot = {}
    for health in known:
        for family in FAMILIES:
            if family.health is not None:
                row: _Rows = {(health.name,): Counter(family.health(health))}
                merge(snapshot, {family: row})
    return snapshot


def _empty(family: Family) -> Metric:
    name = PREFIX + family.name
    names = [label.name for label in family.labels]
    if family.kind is MetricKind.INFO:  # this type adds the suffix and has no unit
        return InfoMetricFamily(name.removesuffix("_info"), family.help, labels=names)
    return _FAMILY_TYPES[family.kind](name, family.help, labels=names, unit=family.unit)


def _render(family: Family, rows: _Rows) -> Metric:
    metric = _empty(family)
    names = [label.name for label in family.labels]
    for values, series in rows.items():
        labels = dict(zip(names, values, strict=True))
        if isinstance(series, Histogram):
            _add_buckets(metric, labels, series)
        elif isinstance(series, Counter | Gauge):
            suffix = {MetricKind.COUNTER: "_total", MetricKind.INFO: "_info"}.get(family.kind, "")
            metric.add_sample(metric.name + suffix, labels, series.value)
    return metric


def _add_buckets(metric: Metric, labels: dict[str, str], series: Histogram) -> None:
    bounds = [*(repr(bound) for bound in series.bounds), "+Inf"]
    exemplars = series.exemplars or [None] * len(bounds)
    cumulative = 0
    for bound, count, exemplar in zip(bounds, series.counts, exemplars, strict=True):
        cumulative += count
        metric.add_sample(
            f"{metric.name}_bucket",
            {**labels, "le": bound},
            cumulative,
            exemplar=_exemplar(exemplar) if exemplar is not None else None,
        )
    metric.add_sample(f"{metric.name}_count", labels, cumulative)
    metric.add_sample(f"{metric.name}_sum", labels, series.total)


def _exemplar(exemplar: TraceExemplar) -> Exemplar:
    """Both ids with their names are 62 characters; OpenMetrics allows 128."""
    ids = {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
    return Exemplar(ids, exemplar.value, exemplar.wall_s)


class _KnownCollectors:
    """Which collector of ours is in which registry.

    A registry has no public way to ask for it, and would refuse a second one of the same names.
    Weak, so that it keeps no registry alive.
    """

    def __init__(self) -> None:
        self._by_registry: WeakKeyDictionary[CollectorRegistry, EnginesCollector] = (
            WeakKeyDictionary()
        )
        self._lock = threading.RLock()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin anew, as in a forked child."""
        self._lock = threading.RLock()

    def of(self, registry: CollectorRegistry) -> EnginesCollector:
        with self._lock:
            collector = self._by_registry.get(registry)
            if collector is None:
                collector = EnginesCollector()
                registry.register(collector)
                self._by_registry[registry] = collector
            return collector


_known: Final = _KnownCollectors()


def collector_of(registry: CollectorRegistry) -> EnginesCollector:
    """Our collector in ``registry``, registered there when it is the first.

    Raises:
        ExporterError: other metrics in the registry have the same names.
    """
    try:
        return _known.of(registry)
    except ValueError as error:
        raise ExporterError(
            ReasonCode.EXPORTER_UNAVAILABLE,
            f"the registry has metrics of our names already: {error}",
            hint="hand in another registry, or none to use a private one",
        ) from error
