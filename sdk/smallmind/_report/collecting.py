"""Collects what a report shows, in one pass over the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from smallmind._report.requests import LogContents, Notable, ReportedRequest
from smallmind.replay import EventLog
from smallmind_engine.telemetry import (
    BackpressureApplied,
    Degraded,
    Event,
    InferenceStarted,
    InferenceStopped,
    KVCacheEvicted,
    LogLevel,
    MemoryBudgetEvent,
    ModelLoadEnded,
    PrefillEnded,
    RequestAdmitted,
    RequestQueued,
    RequestRejected,
    RuntimeLogEvent,
    Snapshot,
    TokenGenerated,
    TokenizerDiagnosed,
)
from smallmind_engine.telemetry.eventlog import Replayer

_OF_REQUESTS: Final = "request stopped"


def collect(log: EventLog) -> LogContents:
    """Everything that a report shows.

    Raises:
        EventLogError: a file cannot be read.
    """
    collector, replayer = _Collector(), Replayer((), whole=log.whole)
    for record in log.records():
        replayer.take(record)
        if isinstance(record, Event) and not isinstance(record, Snapshot):
            collector.take(record)
    notable = sorted(collector.notable.values(), key=lambda each: -each.count)
    return LogContents(
        log=log,
        replayed=replayer.report,
        begun_ns=collector.begun_ns,
        ended_ns=collector.ended_ns,
        loads=tuple(collector.loads),
        requests=tuple(sorted(collector.requests, key=lambda each: each.begun_ns)),
        notable=tuple(notable),
    )


class _Collector:
    """Follows the requests from event to event."""

    def __init__(self) -> None:
        self.begun_ns: int | None = None
        self.ended_ns: int | None = None
        self.loads: list[ModelLoadEnded] = []
        self.requests: list[ReportedRequest] = []
        self.notable: dict[tuple[str, str], Notable] = {}
        self._running: dict[str, ReportedRequest] = {}

    def take(self, event: Event) -> None:
        """Take one event in."""
        if self.begun_ns is None or self.ended_ns is None:
            self.begun_ns = self.ended_ns = event.time_ns
        self.begun_ns = min(self.begun_ns, event.time_ns)
        self.ended_ns = max(self.ended_ns, event.time_ns)
        take = _TAKEN.get(type(event))
        if take is not None:
            take(self, event)

    def _begin(self, event: Any) -> ReportedRequest:
        ids = event.correlation
        request = ReportedRequest(
            ids.request_id, ids.session_id, ids.trace_id, event.model, event.time_ns
        )
        request.latest_ns = event.time_ns
        self._running[ids.request_id] = request
        self.requests.append(request)
        return request

    def _of(self, event: Any) -> ReportedRequest:
        """Its request; begun here when the event of its beginning is missing."""
        request = self._running.get(event.correlation.request_id) or self._begin(event)
        request.latest_ns = max(request.latest_ns, event.time_ns)
        return request

    def queued(self, event: RequestQueued) -> None:
        self._begin(event)

    def admitted(self, event: RequestAdmitted) -> None:
        self._of(event).admitted_ns = event.time_ns

    def started(self, event: InferenceStarted) -> None:
        self._of(event).started_ns = event.time_ns

    def prefilled(self, event: PrefillEnded) -> None:
        self._of(event).prefilled_ns = event.time_ns

    def token(self, event: TokenGenerated) -> None:
        request = self._of(event)
        request.token_ns.append(event.time_ns)
        request.engine_s.append(event.engine_s)
        request.consumer_s.append(event.consumer_s)

    def stopped(self, event: InferenceStopped) -> None:
        request = self._of(event)
        request.stopped = event
        del self._running[event.correlation.request_id]

    def loaded(self, event: ModelLoadEnded) -> None:
        self.loads.append(event)

    def tokenizer(self, event: TokenizerDiagnosed) -> None:
        for issue in event.issues:
            self._note(event, "tokenizer", issue.value, f"of {event.model}")

    def degraded(self, event: Degraded) -> None:
        self._note(event, event.component, event.reason.value, event.message)

    def rejected(self, event: RequestRejected) -> None:
        text = f"{event.queue_depth} waited, {event.limit} may"
        self._note(event, "request turned away", event.reason.value, text)

    def backpressure(self, event: BackpressureApplied) -> None:
        text = f"policy {event.policy}: {event.depth} of {event.limit}"
        self._note(event, "backpressure", event.reason.value, text)

    def evicted(self, event: KVCacheEvicted) -> None:
        text = f"{event.tokens} tokens, {event.freed_bytes} bytes"
        self._note(event, "KV cache", event.reason.value, text)

    def budget(self, event: MemoryBudgetEvent) -> None:
        text = f"{event.wanted_bytes} bytes wanted, {event.granted_bytes} granted"
        self._note(event, f"memory for {event.category}", event.reason.value, text)

    def logged(self, event: RuntimeLogEvent) -> None:
        if event.level >= LogLevel.WARN and event.message != _OF_REQUESTS:
            reason = "" if event.reason is None else event.reason.value
            self._note(event, f"{event.component} ({event.level.name})", reason, event.message)

    def _note(self, event: Event, what: str, reason: str, example: str) -> None:
        before = self.notable.get((what, reason))
        count = 1 if before is None else before.count + 1
        self.notable[what, reason] = Notable(what, reason, count, example, event.time_ns)


_TAKEN: Final[dict[type[Event], Callable[[_Collector, Any], None]]] = {
    RequestQueued: _Collector.queued,
    RequestAdmitted: _Collector.admitted,
    InferenceStarted: _Collector.started,
    PrefillEnded: _Collector.prefilled,
    TokenGenerated: _Collector.token,
    InferenceStopped: _Collector.stopped,
    ModelLoadEnded: _Collector.loaded,
    TokenizerDiagnosed: _Collector.tokenizer,
    Degraded: _Collector.degraded,
    RequestRejected: _Collector.rejected,
    BackpressureApplied: _Collector.backpressure,
    KVCacheEvicted: _Collector.evicted,
    MemoryBudgetEvent: _Collector.budget,
    RuntimeLogEvent: _Collector.logged,
}
