"""Everything of an exporter that cannot cross a fork: providers, senders and live records."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry._logs import Logger, LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from smallmind_engine.telemetry import (
    Event,
    EventKind,
    Exporter,
    ExporterHealth,
    FlushResult,
    RuntimeLogEvent,
    now_ns,
)
from smallmind_engine.telemetry.events import InferenceStopped
from smallmind_engine.telemetry.kinds import FREQUENT
from smallmind_exporters.metrics import MetricStore
from smallmind_exporters.otlp import records, wiring
from smallmind_exporters.otlp.attributes import OPERATION_SPANS
from smallmind_exporters.otlp.details import WaitingDetails
from smallmind_exporters.otlp.instruments import (
    HISTOGRAMS,
    SUMMED,
    HistogramRecorder,
    Instruments,
    instruments_of,
)
from smallmind_exporters.otlp.legs import Leg
from smallmind_exporters.otlp.log_records import emit_details, emit_log
from smallmind_exporters.otlp.metering import MetricsLeg
from smallmind_exporters.otlp.outbox import Counts
from smallmind_exporters.otlp.ready_made import READY_MADE, ReadyMade
from smallmind_exporters.otlp.records import LiveRecords, Record
from smallmind_exporters.otlp.settings import Signal
from smallmind_exporters.otlp.spans import SpanBuilder, Telling
from smallmind_exporters.otlp.tail import SpanDetail, TailExpansion
from smallmind_exporters.otlp.wiring import Connection
from smallmind_exporters.otlp.worker import wait_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an exporter was asked to do.

    Attributes:
        signals: what to send.
        connection: where our own providers send to.
        tracer_provider: the host's, or None.
        meter_provider: the host's, or None.
        logger_provider: the host's, or None.
        detail: of every request.
        tail: of some requests.
        ring: detailed events that a live request keeps.
        content_on_spans: whether ids of tokens may be on spans.
        content_on_events: whether they may be on log events.
        details_event: whether each request is a log event too.
        max_models: models that are told apart in metrics.
    """

    signals: tuple[Signal, ...]
    connection: Connection
    tracer_provider: TracerProvider | None
    meter_provider: MeterProvider | None
    logger_provider: LoggerProvider | None
    detail: SpanDetail
    tail: TailExpansion | None
    ring: int
    content_on_spans: bool
    content_on_events: bool
    details_event: bool
    max_models: int | None

    @property
    def deepest(self) -> SpanDetail:
        """The most detail that any request may be told in."""
        if self.tail is None or self.detail is SpanDetail.KERNEL:
            return self.detail
        tail = SpanDetail(self.tail.detail)
        return tail if tail is SpanDetail.KERNEL else max(self.detail, tail, key=_depth)


def _depth(detail: SpanDetail) -> int:
    return list(SpanDetail).index(detail)


class Pipeline:
    """Turns events into spans, metrics and log records, and counts what becomes of them.

    Args:
        plan: what to do.
        owner: the exporter this belongs to.
        backlog: where the bus puts frequent events, if ``gathers``.

    Attributes:
        interests: kinds of events that it needs.
        gathers: whether the frequent ones come by the backlog, through the metric store.
    """

    def __init__(self, plan: Plan, owner: Exporter, backlog: deque[Event]) -> None:
        self._plan = plan
        self._backlog = backlog
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()
        self._live = LiveRecords(plan.ring)
        self._details = WaitingDetails()
        self._flagged: set[str] = set()
        self._taken = 0
        self._legs: list[Leg] = []
        self._spans: SpanBuilder | None = None
        self._logger: Logger | None = None
        self._store: MetricStore | None = None
        self._own_metrics: MetricsLeg | None = None
        resource = wiring.our_resource(plan.connection.resource)
        if Signal.TRACES in plan.signals:
            tracer, traces = wiring.traces(plan.tracer_provider, plan.connection, resource, owner)
            self._spans, self._traces = SpanBuilder(tracer), traces
            self._legs.append(traces)
        if Signal.LOGS in plan.signals:
            self._logger, self._logs = wiring.logs(
                plan.logger_provider, plan.connection, resource, owner
            )
            self._legs.append(self._logs)
        # Tokens are kept for detail only; without it the store has all that is to be said of them.
        keeps = records.KINDS if self._keeps_details else records.KINDS & ~records.DETAILS
        self._follows = keeps if self._spans is not None or plan.details_event else 0
        if Signal.METRICS in plan.signals:
            self._begin_metrics(plan, resource, owner)
        self.interests: Final = self._interests()
        self.gathers: Final = self._store is not None and not FREQUENT & self._histograms.interests

    def _begin_metrics(self, plan: Plan, resource: Any, owner: Exporter) -> None:
        provider, meter, leg = wiring.meters(plan.meter_provider, plan.connection, resource, owner)
        own = leg if isinstance(leg, MetricsLeg) else None
        ready_made = own is not None and own.takes_ready_made
        store = MetricStore(
            (*SUMMED, *READY_MADE) if ready_made else SUMMED,
            max_models=plan.max_models,
            backlog=self._backlog,
            pass_on=self._keep if FREQUENT & self._follows else None,
        )
        if own is None:
            self._instruments: Instruments = instruments_of(provider, meter)
        else:
            recorded = [f for f in HISTOGRAMS if not ready_made or f not in READY_MADE]
            self._instruments = Instruments(meter, recorded)
            own.taken = self._count
            if ready_made:
                own.complete = ReadyMade(store).added_to
        self._instruments.attach(store)
        self._histograms = HistogramRecorder(self._instruments, plan.max_models)
        self._recorded = self._histograms.interests
        self._store = store
        self._legs.append(leg)
        self._own_metrics = own

    @property
    def _keeps_details(self) -> bool:
        plan = self._plan
        detailed = plan.deepest is not SpanDetail.REQUEST or plan.tail is not None
        return detailed or plan.content_on_spans or plan.content_on_events

    def _interests(self) -> int:
        mask = 0
        if self._spans is not None:
            mask |= records.OPENING | records.CLOSING | records.STEPS
            if self._keeps_details:
                mask |= EventKind.TOKEN_GENERATED
            if self._plan.deepest is SpanDetail.KERNEL:
                mask |= EventKind.KERNEL_EXECUTED
        if self._logger is not None:
            mask |= EventKind.LOG
            if self._plan.details_event:
                mask |= records.OPENING | records.CLOSING | records.STEPS
        if self._store is not None:
            mask |= self._store.interests | self._histograms.interests
            if self._plan.deepest is not SpanDetail.KERNEL:
                # An engine that tells of each operation would flood the queue for three sums.
                mask &= ~EventKind.KERNEL_EXECUTED
        return int(mask)

    def bind_health(self, health: Callable[[], Iterable[ExporterHealth]]) -> None:
        """Show how the exporters of a bus fare."""
        if self._store is not None:
            self._instruments.bind_health(self._store, health)

    def flag(self, request_id: str) -> None:
        """Expand a request when it ends."""
        with self._lock:
            self._flagged.add(request_id)

    def take(self, event: Event) -> None:
        """Take one event; never waits for anything."""
        with self._lock:
            self._taken += 1
            if self._taken == 1 and self._own_metrics is not None:
                self._own_metrics.start()
            kind = event.kind
            if self._store is not None:
                self._store.take(event)
                if kind & self._recorded:
                    self._histograms.take(event)
            if kind == EventKind.LOG:
                self._log(event)
            elif self._follows & kind:
                for detail in self._details.before(event):
                    self._live.take(detail)
                closed = self._live.take(event)
                if closed is not None:
                    self._tell(closed, event)

    def _keep(self, event: Event) -> None:
        """Keep what came beside a queue, for when the queue comes to its request."""
        if event.kind & self._follows:
            self._details.add(event)

    def _count(self) -> int:
        """Events so far, those of the backlog included."""
        return self._taken + (0 if self._store is None else self._store.gathered)

    def _log(self, event: Event) -> None:
        if self._logger is not None and isinstance(event, RuntimeLogEvent):
            emit_log(self._logger, event)
            self._logs.commit(1)

    def _tell(self, record: Record, end: Event) -> None:
        if isinstance(end, InferenceStopped):
            if self._spans is not None:
                self._spans.request(record, end, self._telling(record, end))
            if self._logger is not None and self._plan.details_event:
                emit_details(self._logger, record, end, content=self._plan.content_on_events)
                self._logs.commit(0)
        how = OPERATION_SPANS.get(type(end))
        if how is not None and self._spans is not None:
            self._spans.operation(record, end, how)
        if self._spans is not None:
            self._traces.commit(record.events)

    def _telling(self, record: Record, stop: InferenceStopped) -> Telling:
        plan = self._plan
        request_id = record.correlation.request_id
        flagged = request_id in self._flagged
        self._flagged.discard(request_id)
        cause = (
            plan.tail.cause(stop, record.slowest_token_s, flagged=flagged) if plan.tail else None
        )
        detail = plan.detail
        if plan.tail is not None and cause is not None:
            detail = max(detail, SpanDetail(plan.tail.detail), key=_depth)
        return Telling(detail, cause, plan.content_on_spans)

    def flush(self, timeout_s: float) -> FlushResult:
        """Send all that can be sent within the time, and tell what became of the events."""
        deadline_ns = now_ns() + int(max(0.0, timeout_s) * 1e9)
        asked = [leg.ask() for leg in self._legs]
        done = [wait_for(answer, deadline_ns) for answer in asked]
        return self._result(timed_out=not all(done))

    def close(self, timeout_s: float) -> FlushResult:
        """Send what can be sent within the time, and let go of everything."""
        deadline_ns = now_ns() + int(timeout_s * 1e9)
        if self._store is not None:
            self._store.stop_gathering()
            with self._lock:  # what of it belongs to no request is not lost with those that run
                for event in self._details.all():
                    self._live.take(event)
        asked = [leg.stop() for leg in self._legs]
        done = [wait_for(answer, deadline_ns) for answer in asked]
        for leg in self._legs:
            leg.abandon()
        if self._store is not None:
            self._instruments.detach(self._store)
        return self._result(timed_out=not all(done))

    @property
    def lost(self) -> int:
        """Events that are lost for good: refused, or given up because too many waited."""
        return sum(leg.counts.failed + leg.counts.dropped for leg in self._legs) + self._given_up

    @property
    def _given_up(self) -> int:
        """Events that were too many to be followed."""
        return self._live.given_up + self._details.given_up

    def _result(self, *, timed_out: bool) -> FlushResult:
        """Each event once: lost, pending in some signal, or delivered in all."""
        with self._lock:
            counts = [leg.counts for leg in self._legs]
            failed = sum(each.failed for each in counts)
            dropped = sum(each.dropped for each in counts) + self._given_up
            taken = self._count()
            pending = _pending(counts, self._live.events + len(self._details))
            pending = min(pending, max(0, taken - failed - dropped))
            return FlushResult(
                delivered=taken - failed - dropped - pending,
                failed=failed,
                dropped=dropped,
                pending=pending,
                timed_out=timed_out,
            )


def _pending(counts: Iterable[Counts], live: int) -> int:
    """Metrics wait for all events, spans and log records for some of the same ones."""
    waiting = [each.waiting for each in counts]
    *others, last = waiting or [0]
    return max(sum(others) + live, last)
