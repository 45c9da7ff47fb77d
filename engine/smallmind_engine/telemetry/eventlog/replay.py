"""Replay: the state that an exporter had at the end of a log, made again from the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Protocol, runtime_checkable

from smallmind_engine.telemetry.eventlog.reading import EventLog
from smallmind_engine.telemetry.eventlog.records import (
    HealthReport,
    LossReport,
    Record,
    Unreadable,
)
from smallmind_engine.telemetry.events import Degraded, Event
from smallmind_engine.telemetry.exporter import Exporter, ExporterHealth, FlushResult
from smallmind_engine.telemetry.health import HealthAware
from smallmind_engine.telemetry.in_memory_metrics import InMemoryRuntimeMetrics, MetricsSnapshot
from smallmind_engine.telemetry.metrics import METRIC_KINDS, MetricsExporter
from smallmind_engine.telemetry.reasons import DegradeReason
from smallmind_engine.telemetry.snapshots import SNAPSHOT_SCHEMA, Snapshot

LOG_EXPORTER: Final = "jsonl"
"""Name of the exporter that writes logs."""


@runtime_checkable
class Restorable(Protocol):
    """An exporter that can begin with what a snapshot says."""

    def restore(self, snapshot: Snapshot, /) -> None:
        """Take over the numbers of ``snapshot``; called before the first event."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a log held.

    Attributes:
        events: that were replayed.
        counted_before: events whose sum the first snapshot gave, because their files are gone;
            None when the log reaches back to the first event.
        from_snapshot: whether that snapshot was there, and of a version that is known.
        unknown: events and records of a newer version, left out.
        damaged: lines that cannot be used, left out.
        torn: files whose last line is not whole: the process died while it wrote.
        lost: events that could not be written when they happened.
        dropped: events that the queue before the log dropped, as far as the log tells.
        health: how the exporters fared, when it was last written.
    """

    events: int = 0
    counted_before: int | None = None
    from_snapshot: bool = False
    unknown: int = 0
    damaged: int = 0
    torn: int = 0
    lost: int = 0
    dropped: int = 0
    health: tuple[ExporterHealth, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every event of the process is in the log, or in its first snapshot."""
        gone = self.counted_before is not None and not self.from_snapshot
        return not (gone or self.unknown or self.damaged or self.lost or self.dropped)


class EventSourcedMetrics:
    """Metrics that are nothing but the sum of the events: live, or replayed from a log.

    It is an exporter: subscribe it to a bus, or give it to ``replay``. The snapshot after a log
    was replayed is the one that ``InMemoryRuntimeMetrics`` had in the process that wrote the log.

    Args:
        metrics: counts; fresh ones by default.
    """

    name: Final = "event-sourced-metrics"
    inline: Final = True
    interests: Final = METRIC_KINDS

    def __init__(self, metrics: InMemoryRuntimeMetrics | None = None) -> None:
        self._metrics = metrics or InMemoryRuntimeMetrics()
        self._feed = MetricsExporter(self._metrics)

    @classmethod
    def from_log(cls, log: EventLog) -> EventSourcedMetrics:
        """The metrics at the end of ``log``.

        Of a log whose beginning is gone only what is left counts; see ``ReplayReport``.
        """
        metrics = cls()
        replay(log, (metrics,))
        return metrics

    def export(self, event: Event, /) -> None:
        """Count one event."""
        self._feed.export(event)

    def snapshot(self) -> MetricsSnapshot:
        """Everything as it is now."""
        return self._metrics.snapshot()

    def flush(self, timeout_s: float) -> FlushResult:
        """Nothing is held back here."""
        return self._feed.flush(timeout_s)

    def close(self) -> None:
        """Count nothing more."""
        self._feed.close()


class Replayer:
    """Feeds exporters record by record; ``report`` tells what there was.

    Args:
        exporters: receive the events of the kinds they want, each in this thread.
        whole: whether the first event of the process is among the records. If not, a snapshot
            before the first record stands for what came before.
    """

    def __init__(self, exporters: Iterable[Exporter], *, whole: bool = True) -> None:
        self._exporters = tuple(exporters)
        self._begun = False
        self.report = ReplayReport(counted_before=None if whole else 0)
        for exporter in self._exporters:
            if isinstance(exporter, HealthAware):
                exporter.bind_health(lambda: self.report.health)

    def take(self, record: Record) -> None:
        """Replay one record."""
        report = self.report
        if isinstance(record, Snapshot):
            self._restore(record)
        elif isinstance(record, Event):
            self._begun = True
            self.report = replace(
                report, events=report.events + 1, dropped=report.dropped + _dropped(record)
            )
            for exporter in self._exporters:
                if exporter.interests & record.kind:
                    exporter.export(record)
        elif isinstance(record, HealthReport):
            dropped = sum(each.dropped for each in record.exporters if each.name == LOG_EXPORTER)
            self.report = replace(
                report,
                health=record.exporters,
                dropped=max(report.dropped, dropped - report.lost),
            )
        elif isinstance(record, LossReport):
            self.report = replace(report, lost=report.lost + record.events)
        elif isinstance(record, Unreadable):
            self.report = replace(
                report,
                torn=report.torn + record.torn,
                unknown=report.unknown + record.unknown,
                damaged=report.damaged + (not record.torn and not record.unknown),
            )

    def _restore(self, snapshot: Snapshot) -> None:
        """Begin with the snapshot if nothing came before it; later ones say what is known."""
        if self._begun:
            return
        self._begun = True
        known = snapshot.schema == SNAPSHOT_SCHEMA
        self.report = replace(self.report, counted_before=snapshot.counted, from_snapshot=known)
        for exporter in self._exporters:
            if known and isinstance(exporter, Restorable):
                exporter.restore(snapshot)


def replay(log: EventLog, exporters: Iterable[Exporter]) -> ReplayReport:
    """Feed the exporters the log, as its process fed them; they stay open.

    Args:
        log: to replay.
        exporters: with the state of before the first event.

    Raises:
        EventLogError: a file cannot be read.
    """
    replayer = Replayer(exporters, whole=log.whole)
    for record in log.records():
        replayer.take(record)
    return replayer.report


def _dropped(event: Event) -> int:
    """Events that the queue before the log dropped, as a degradation in the log itself tells."""
    if (
        not isinstance(event, Degraded)
        or event.reason is not DegradeReason.EVENTS_DROPPED
        or event.component != f"exporter:{LOG_EXPORTER}"
    ):
        return 0
    count = event.message.partition(" ")[0]
    return int(count) if count.isdecimal() else 0
