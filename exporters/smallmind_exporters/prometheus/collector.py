"""The one collector of ours in a registry: renders the numbers of its engines when scraped.

Imported when an exporter is made, because it needs ``prometheus_client``.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
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
from smallmind_exporters.metrics.store import Snapshot, cumulative, merge
from smallmind_exporters.metrics.telemetry_families import PROCESSES
from smallmind_exporters.prometheus.processes import ProcessFolder

LONGEST_EXEMPLAR: Final = 128  # characters of names and values, as OpenMetrics says

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
    With a folder that several processes share, the numbers of all of them add up.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._engines: dict[MetricStore, list[HealthSource]] = {}
        self._closed: Snapshot = {}
        self._failures = 0
        self._processes: ProcessFolder | None = None
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
            self._failures += 1
            return {}

    def detach(self, store: MetricStore) -> None:
        """Keep what the engine counted, and let go of it."""
        with self._lock:
            if self._engines.pop(store, None) is None:
                return
            merge(self._closed, cumulative(store.snapshot()))
            last = not self._engines
        if last and self._processes is not None:
            self._processes.stop()

    def share(self, folder: Path) -> None:
        """Show the numbers of all processes that share ``folder``, and tell them ours.

        Raises:
            ExporterError: the folder cannot be used, or another one is shared already.
        """
        with self._lock:
            if self._processes is None:
                owner = weakref.ref(self)  # or the two would keep each other alive
                self._processes = ProcessFolder(folder, lambda: _own_of(owner))
            elif self._processes.folder != folder:
                raise ExporterError(
                    ReasonCode.EXPORTER_UNAVAILABLE,
                    f"the registry shares {self._processes.folder} with other processes already,"
                    f" and cannot share {folder} too",
                    hint="give all exporters of a registry the same folder",
                    folder=str(folder),
                )
            processes = self._processes
        processes.start()

    def write(self) -> None:
        """Let the other processes see the numbers as they are now."""
        if self._processes is not None:
            self._processes.write()

    def begin_in_child(self) -> None:
        """Begin anew, as in a forked child."""
        self._lock = threading.RLock()
        self._closed = {}

    def describe(self) -> Iterator[Metric]:
        """The families without their numbers, for the registry's check on duplicate names."""
        return (_empty(family) for family in FAMILIES)

    def own(self) -> Snapshot:
        """The numbers of this process at one moment."""
        with self._lock:
            engines = tuple(self._engines.items())
            snapshots = [store.snapshot() for store, _ in engines]
            total: Snapshot = {PROCESSES: {(): _one()}}
            merge(total, {family: _copies(rows) for family, rows in self._closed.items()})
            for snapshot in snapshots:
                merge(total, snapshot)
            for _, sources in engines:
                for health in tuple(sources):
                    merge(total, self._health_rows(health))
            failures = self._failures + (self._processes.failures if self._processes else 0)
            if failures:
                merge(total, _rows_of_health((_failed(failures),)))
        return total

    def collect(self) -> Iterator[Metric]:
        """The families with their numbers at one moment. Changes nothing."""
        others = () if self._processes is None else self._others(self._processes)
        total = self.own()
        for snapshot in others:
            merge(total, snapshot)
        return (_render(family, total.get(family, {})) for family in FAMILIES)

    def _others(self, processes: ProcessFolder) -> Iterable[Snapshot]:
        """The numbers of the other processes; what fails is counted, and never fails the scrape."""
        try:
            return processes.others()
        except Exception:  # noqa: BLE001 - as in _health_rows
            self._failures += 1
            return ()


def _failed(failures: int) -> ExporterHealth:
    return ExporterHealth("prometheus", attached=True, errors=failures, dropped=0, last_error="")


def _own_of(owner: weakref.ref[EnginesCollector]) -> Snapshot:
    collector = owner()
    return {} if collector is None else collector.own()


def _one() -> Gauge:
    gauge = Gauge()
    gauge.add(1, None)
    return gauge


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


def _exemplar(exemplar: TraceExemplar) -> Exemplar | None:
    """Both ids with their names are 63 characters; longer ones cannot be W3C ids and are left out.

    OpenMetrics allows 128, and one that is longer would make the whole scrape invalid.
    """
    ids = {"trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
    if sum(len(name) + len(value) for name, value in ids.items()) > LONGEST_EXEMPLAR:
        return None
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
