"""OpenTelemetry instruments, generated from the table of metrics.

What adds up is read from the metric store when the provider collects; only histograms are touched
as events come, because no instrument takes a histogram that is ready made. (``ready_made`` tells
how our own provider does without, where no exemplars are wanted.)
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider, Observation

from smallmind_engine.telemetry import Correlation, Event, ExporterHealth, renew_in_child
from smallmind_engine.telemetry.events import InferenceStopped
from smallmind_exporters import conventions
from smallmind_exporters.metrics import FAMILIES, Counter, Family, Gauge, MetricKind, MetricStore
from smallmind_exporters.metrics.family import CUMULATIVE, Reading
from smallmind_exporters.metrics.labels import MODEL
from smallmind_exporters.metrics.opentelemetry import (
    Instrument,
    convention_attributes,
    otel_attribute,
    otel_instrument,
    otel_name,
    otel_unit,
)
from smallmind_exporters.metrics.store import OTHER, LabelValues, Snapshot, merge
from smallmind_exporters.otlp.attributes import clean_text
from smallmind_exporters.otlp.identity import context_of

HealthSource = Callable[[], Iterable[ExporterHealth]]

SUMMED: Final = tuple(f for f in FAMILIES if f.kind is not MetricKind.HISTOGRAM)
HISTOGRAMS: Final = tuple(f for f in FAMILIES if f.kind is MetricKind.HISTOGRAM)
# In one process client and server are the same, and the client's duration is the one that the
# conventions require.
ALSO_KNOWN_AS: Final = {
    conventions.SERVER_REQUEST_DURATION: conventions.CLIENT_OPERATION_DURATION,
}
_ADDITIVE: Final = frozenset({Instrument.COUNTER, Instrument.UP_DOWN_COUNTER})


class Instruments:
    """The instruments of one meter, over the stores of all exporters that share it.

    What a closed exporter counted stays, so that counters never go back.

    Args:
        meter: of our own scope.
        histograms: the families to record as events come.
    """

    def __init__(self, meter: Meter, histograms: Iterable[Family] = HISTOGRAMS) -> None:
        self._stores: dict[MetricStore, list[HealthSource]] = {}
        self._closed: Snapshot = {}
        self._shown: tuple[tuple[object, ...], Snapshot] | None = None
        self.begin_in_child()
        renew_in_child(self)
        create: dict[Instrument, Callable[..., object]] = {
            Instrument.COUNTER: meter.create_observable_counter,
            Instrument.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
            Instrument.GAUGE: meter.create_observable_gauge,
        }
        for family in SUMMED:
            create[otel_instrument(family)](
                otel_name(family),
                callbacks=[partial(self._observe, family)],
                unit=otel_unit(family),
                description=family.help,
            )
        self.histograms: Final = {
            family: tuple(
                meter.create_histogram(
                    name,
                    unit=otel_unit(family),
                    description=family.help,
                    explicit_bucket_boundaries_advisory=list(family.buckets),
                )
                for name in _names(family)
            )
            for family in histograms
        }

    def begin_in_child(self) -> None:
        """Begin with a free lock, as in a forked child."""
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()

    def attach(self, store: MetricStore) -> None:
        """Show the numbers of one more exporter."""
        with self._lock:
            self._stores[store] = []

    def bind_health(self, store: MetricStore, health: HealthSource) -> None:
        """Show, too, how the exporters of a bus fare."""
        with self._lock:
            self._stores.get(store, []).append(health)

    def detach(self, store: MetricStore) -> None:
        """Keep what an exporter counted, and let go of it."""
        with self._lock:
            if self._stores.pop(store, None) is not None:
                counted = {f: r for f, r in store.snapshot().items() if f.kind in CUMULATIVE}
                merge(self._closed, counted)

    def _observe(self, family: Family, _: CallbackOptions) -> Iterable[Observation]:
        names = [otel_attribute(label) for label in family.labels]
        if family.health is not None:
            rows: Iterable[tuple[LabelValues, float]] = self._health(family)
        else:
            rows = (
                (values, series.value)
                for values, series in self._snapshot().get(family, {}).items()
                if isinstance(series, Counter | Gauge)
            )
        return [Observation(value, dict(zip(names, values, strict=True))) for values, value in rows]

    def _snapshot(self) -> Snapshot:
        """All numbers now; one and the same for all instruments while no event comes between."""
        with self._lock:
            version = tuple((store, store.taken) for store in self._stores)
            if self._shown is not None and self._shown[0] == version:
                return self._shown[1]
            total: Snapshot = {}
            merge(total, {f: {v: s.copy() for v, s in r.items()} for f, r in self._closed.items()})
            for store in self._stores:
                merge(total, store.snapshot())
            self._shown = (version, total)
            return total

    def _health(self, family: Family) -> list[tuple[LabelValues, float]]:
        totals: dict[LabelValues, float] = {}
        with self._lock:
            sources = [source for known in self._stores.values() for source in known]
        for source in sources:
            for health in source():
                if family.health is not None:
                    key = (health.name,)
                    totals[key] = totals.get(key, 0) + family.health(health)
        return list(totals.items())


class HistogramRecorder:
    """Records what an event says about histograms, with the request's trace as exemplar.

    Args:
        instruments: has the histograms.
        max_models: how many models are told apart; further ones are recorded as ``_other``.
    """

    def __init__(self, instruments: Instruments, max_models: int | None = None) -> None:
        self._plans: dict[type[Event], list[tuple[Family, Reading, tuple[Histogram, ...]]]] = {}
        for family, histograms in instruments.histograms.items():
            for reading in family.readings:
                self._plans.setdefault(reading.event, []).append((family, reading, histograms))
        self._models: set[str] = set()
        self._max_models = (MODEL.limit or 0) if max_models is None else max_models
        self._last: tuple[Correlation, Context] | None = None

    @property
    def interests(self) -> int:
        """The kinds of events it needs, as a mask."""
        mask = 0
        for event in self._plans:
            mask |= event.kind
        return mask

    def take(self, event: Any) -> None:
        """Record one event. Called for every token; costs microseconds."""
        for family, reading, histograms in self._plans.get(type(event), ()):
            for values, value in _rows(reading, event):
                if not 0.0 <= value < math.inf:  # the store counts these
                    continue
                attributes = self._attributes(family, values, event)
                context = self._context(event.correlation) if family.exemplars else None
                for histogram in histograms:
                    histogram.record(value, attributes, context)

    def _attributes(self, family: Family, values: Sequence[str], event: Any) -> dict[str, str]:
        labels = zip(family.free_labels, values, strict=True)
        attributes = {otel_attribute(label): str(value) for label, value in labels}
        if family.convention and isinstance(event, InferenceStopped):
            attributes |= convention_attributes(event)
        if family.per_model:
            attributes[conventions.REQUEST_MODEL] = self._admit(event.model)
        return attributes

    def _admit(self, model: str) -> str:
        name = clean_text(model)
        if name in self._models:
            return name
        if len(self._models) >= self._max_models:
            return OTHER
        self._models.add(name)
        return name

    def _context(self, ids: Correlation) -> Context:
        if self._last is None or self._last[0] is not ids:
            self._last = (ids, context_of(ids))
        return self._last[1]


def _rows(reading: Reading, event: Any) -> Iterable[tuple[Sequence[str], float]]:
    if reading.rows is not None:
        return reading.rows(event)
    value = 1.0 if reading.value is None else reading.value(event)
    return () if value is None else ((reading.values, value),)


def _names(family: Family) -> tuple[str, ...]:
    name = otel_name(family)
    return (name, ALSO_KNOWN_AS[name]) if name in ALSO_KNOWN_AS else (name,)


class _KnownInstruments:
    """Which instruments of ours are on which provider.

    A provider answers a second creation with the first instrument and forgets its callbacks, so
    all exporters on a provider share one set. Weak, so that it keeps no provider alive.
    """

    def __init__(self) -> None:
        self._by_provider: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin with a free lock, as in a forked child."""
        self._lock = threading.RLock()

    def of(self, provider: MeterProvider, meter: Meter) -> Instruments:
        with self._lock:
            instruments = self._by_provider.get(provider)
            if instruments is None:
                instruments = self._by_provider[provider] = Instruments(meter)
            return instruments


instruments_of: Final = _KnownInstruments().of
