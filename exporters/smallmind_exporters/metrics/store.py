"""Adds events up by the table of families: exact under threads, a microsecond for a token.

One lock is taken once per event, so that a snapshot shows each event in all its families or in
none of them. It is re-entrant: the garbage collector may close an abandoned stream, which then
publishes its end, in the middle of anything.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from smallmind_engine.telemetry import Event, ModelLoadStarted, renew_in_child, taken_from
from smallmind_engine.telemetry.events import (
    InferenceStopped,
    RequestAdmitted,
    RequestQueued,
    RequestRejected,
)
from smallmind_exporters.metrics.families import FAMILIES
from smallmind_exporters.metrics.family import CUMULATIVE, Family, Label, MetricKind
from smallmind_exporters.metrics.labels import MODEL
from smallmind_exporters.metrics.requests import RequestTracker
from smallmind_exporters.metrics.series import Counter, Gauge, Series, new_series
from smallmind_exporters.metrics.telemetry_families import EVENTS, INVALID_VALUES

OTHER: Final = "_other"
UNKNOWN: Final = "unknown"
LONGEST_LABEL: Final = 128

LabelValues = tuple[str, ...]
Snapshot = dict[Family, dict[LabelValues, Series]]
"""Series by family and by the values of all its labels."""

_INFINITY: Final = math.inf
_NO_MODEL: Final = ""
_TRACKED: Final = (RequestQueued, RequestAdmitted, RequestRejected, InferenceStopped)
_Rows = dict[LabelValues, Series]


@dataclass(frozen=True, slots=True)
class StoreState:
    """What a store consists of.

    Attributes:
        rows: series by model (empty for those of no model), family and further labels.
        requests: those that wait or run.
        invalid: readings left out.
        taken: events added up.
    """

    rows: dict[str, dict[Family, _Rows]]
    requests: RequestTracker
    invalid: Counter
    taken: int


class _Bound:
    """The readings of one type of event, tied to the series of one model."""

    __slots__ = ("counters", "model", "rows", "single")

    def __init__(self, model: str) -> None:
        self.model = model
        self.counters: list[Counter] = []
        self.single: list[
            tuple[Callable[[Any], float | None], Callable[[float, Event | None], None]]
        ] = []
        self.rows: list[tuple[Family, _Rows, Callable[[Any], Iterable[tuple[Any, float]]]]] = []


class _Plan:
    """What one type of event moves; bound to a model when its name is first seen."""

    __slots__ = ("bound", "of_model", "readings", "tracked")

    def __init__(self, event: type[Event], families: Iterable[Family]) -> None:
        self.of_model = "model" in event._fields  # type: ignore[attr-defined]  # an event is a named tuple
        self.tracked = event in _TRACKED
        self.readings = [
            (family, reading)
            for family in families
            for reading in family.readings
            if reading.event is event
        ]
        self.bound: dict[str, _Bound] = {}


class MetricStore:
    """The numbers of one engine.

    After a fork the child counts from zero, because what was counted belongs to the parent; what
    stands for a state (the model that is loaded) stays.

    Args:
        families: the table to add up by.
        max_models: how many models are told apart; further ones are counted as ``_other``.
        backlog: to go on with; None for one of its own.
        pass_on: is called with each event that came by the backlog.

    Attributes:
        backlog: events that are added up before the next one is, and before anyone reads.
    """

    def __init__(
        self,
        families: tuple[Family, ...] = FAMILIES,
        *,
        max_models: int | None = None,
        backlog: deque[Event] | None = None,
        pass_on: Callable[[Event], None] | None = None,
    ) -> None:
        self._families = families
        self._new_lock()
        self._plans = {event: _Plan(event, families) for event in self._event_types()}
        self._rows: dict[str, dict[Family, _Rows]] = {}
        self._seen: dict[Label, set[str]] = {}
        self._model = replace(MODEL, limit=MODEL.limit if max_models is None else max_models)
        self._requests = RequestTracker()
        self._taken = self._gathered = 0
        self._invalid = Counter()
        self.backlog: deque[Event] = deque() if backlog is None else backlog
        self._pass_on = pass_on
        self._rows_of(_NO_MODEL)
        renew_in_child(self)

    def _event_types(self) -> set[type[Event]]:
        read = {reading.event for family in self._families for reading in family.readings}
        tracked = _TRACKED if any(family.stage for family in self._families) else ()
        return {*read, *tracked, ModelLoadStarted}

    def _new_lock(self) -> None:
        self._lock = threading.RLock()
        self._acquire_release = (self._lock.acquire, self._lock.release)

    def begin_in_child(self) -> None:
        """Begin anew, as in a forked child."""
        self._new_lock()
        self.backlog.clear()
        self._taken = self._gathered = 0
        self._requests.clear()
        self._invalid.value = 0
        for by_family in self._rows.values():
            for family, rows in by_family.items():
                if family.kind in CUMULATIVE:
                    rows.clear()
        for plan in self._plans.values():
            plan.bound.clear()
        for model in self._rows:
            self._create_zeros(model)

    @property
    def families(self) -> tuple[Family, ...]:
        """The table it adds up by."""
        return self._families

    @property
    def interests(self) -> int:
        """The kinds of events it needs, as a mask."""
        mask = 0
        for event in self._plans:
            mask |= event.kind
        return mask

    @property
    def taken(self) -> int:
        """Events added up so far."""
        self._settle()
        return self._taken

    @property
    def gathered(self) -> int:
        """How many of them came by the backlog."""
        self._settle()
        return self._gathered

    def stop_gathering(self) -> None:
        """Add up what waits, and nothing that is put into its backlog from now on."""
        self._settle()
        self.backlog = deque()

    def _settle(self) -> None:
        """Add up what waits; what cannot be added up is counted as an invalid value."""
        with self._lock:
            for event in taken_from(self.backlog):
                self._gathered += 1
                if self._pass_on is not None:
                    self._pass_on(event)
                try:
                    self._add_up(event)
                except Exception:  # noqa: BLE001 - who reads is not to blame
                    self._invalid.value += 1

    def take(self, event: Any) -> None:
        """Add one event up, behind those of the backlog."""
        if self.backlog:
            self._settle()
        acquire, release = self._acquire_release  # half the cost of a with statement
        acquire()
        try:
            self._add_up(event)
        finally:
            release()

    def _add_up(self, event: Any) -> None:
        """Add one event up; the lock is held. Hot path: called for every token."""
        plan = self._plans.get(type(event))
        if plan is None:
            return
        self._taken += 1
        name = event.model if plan.of_model else _NO_MODEL
        bound = plan.bound.get(name) or self._bind(plan, name)
        for counter in bound.counters:
            counter.value += 1
        for value_of, add in bound.single:
            value = value_of(event)
            if value is not None:
                if 0.0 <= value < _INFINITY:
                    add(value, event)
                else:
                    self._invalid.value += 1
        if bound.rows:
            self._take_rows(bound, event)
        if plan.tracked:
            self._requests.follow(event, bound.model)

    def _take_rows(self, bound: _Bound, event: Event) -> None:
        for family, rows, read in bound.rows:
            for values, value in read(event):
                if not 0.0 <= value < _INFINITY:
                    self._invalid.value += 1
                    continue
                if family.kind is MetricKind.INFO:
                    rows.clear()
                series = rows.get(values)
                if series is None:
                    series = self._series(family, rows, values)
                series.add(value, event)

    def _bind(self, plan: _Plan, name: str) -> _Bound:
        model = self._admit(self._model, name) if plan.of_model else _NO_MODEL
        by_family = self._rows_of(model)
        bound = _Bound(model)
        for family, reading in plan.readings:
            rows = by_family[family] if family.per_model else self._rows[_NO_MODEL][family]
            if reading.rows is not None:
                bound.rows.append((family, rows, reading.rows))
                continue
            series = rows.get(reading.values) or self._series(family, rows, reading.values)
            if reading.value is not None:
                bound.single.append((reading.value, series.add))
            elif isinstance(series, Counter):
                bound.counters.append(series)
        if model != OTHER:  # or the names of endless models would pile up here
            plan.bound[name] = bound
        return bound

    def _rows_of(self, model: str) -> dict[Family, _Rows]:
        by_family = self._rows.get(model)
        if by_family is None:
            by_family = self._rows[model] = {
                family: {} for family in self._families if family.per_model == (model != _NO_MODEL)
            }
            self._create_zeros(model)
        return by_family

    def _create_zeros(self, model: str) -> None:
        """Make the series that are known beforehand, so that rates see their first increase."""
        for family, rows in self._rows[model].items():
            if family.readings and family.kind in CUMULATIVE:
                for values in known_values(family):
                    self._series(family, rows, values)

    def _series(self, family: Family, rows: _Rows, values: LabelValues) -> Series:
        admitted = tuple(
            self._admit(label, value)
            for label, value in zip(family.free_labels, values, strict=True)
        )
        series = rows.get(admitted)
        if series is None:
            series = rows[admitted] = new_series(family)
        return series

    def _admit(self, label: Label, value: str) -> str:
        """The value to show: cleaned, and ``_other`` when the label has too many already."""
        clean = _clean(value)
        seen = self._seen.setdefault(label, set())
        if clean not in seen:
            if label.limit is not None and len(seen) >= label.limit:
                return OTHER
            seen.add(clean)
        return clean

    def snapshot(self) -> Snapshot:
        """All series as they are at one moment."""
        result: Snapshot = {family: {} for family in self._families}
        with self._lock:
            self._settle()
            for model, by_family in tuple(self._rows.items()):
                prefix = (model,) if model != _NO_MODEL else ()
                for family, rows in by_family.items():
                    shown = result[family]
                    for values, series in tuple(rows.items()):
                        shown[prefix + values] = series.copy()
            self._add_requests(result)
            for family, number in ((INVALID_VALUES, self._invalid.value), (EVENTS, self._taken)):
                if family in result:
                    result[family][()] = Counter(number)
        return result

    @contextmanager
    def frozen(self) -> Iterator[StoreState]:
        """The numbers themselves, for a snapshot of them; nothing changes inside the block."""
        with self._lock:
            self._settle()
            yield StoreState(self._rows, self._requests, self._invalid, self._taken)

    def count_from(self, taken: int) -> None:
        """Begin the count of events with those of a snapshot; inside ``frozen`` only."""
        self._taken = taken

    def series_of(self, family: Family, values: LabelValues) -> Series:
        """The series of these label values, made when it is not there; inside ``frozen`` only."""
        model, rest = (values[0], values[1:]) if family.per_model else (_NO_MODEL, values)
        rows = self._rows_of(self._admit(self._model, model) if family.per_model else model)
        return rows[family].get(rest) or self._series(family, rows[family], rest)

    def _add_requests(self, result: Snapshot) -> None:
        for family, shown in result.items():
            if family.stage is None:
                continue
            counts = self._requests.counts(family.stage)
            for model in tuple(self._rows):
                if model != _NO_MODEL:
                    gauge = Gauge()
                    gauge.add(counts[model], None)
                    shown[model,] = gauge


def known_values(family: Family) -> Iterable[LabelValues]:
    """The values of its labels after the model that exist from the start."""
    if family.combinations is not None:
        return family.combinations
    return itertools.product(*(label.values for label in family.free_labels))


def merge(into: Snapshot, other: Snapshot) -> None:
    """Take the series of ``other`` into ``into``, which may keep them."""
    for family, rows in other.items():
        mine = into.setdefault(family, {})
        for values, series in rows.items():
            if values in mine:
                mine[values].merge(series)
            else:
                mine[values] = series


def cumulative(snapshot: Snapshot) -> Snapshot:
    """What of a snapshot stays when its engine is gone: what was counted, but no state."""
    return {family: rows for family, rows in snapshot.items() if family.kind in CUMULATIVE}


def _clean(value: str) -> str:
    """A value that every exposition format can carry."""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    return text[:LONGEST_LABEL] or UNKNOWN
