"""Logs of events: their lines, reading and following them, and replaying them into exporters."""

from smallmind_engine.telemetry.eventlog.coding import (
    UnknownEventError,
    event_from,
    event_line,
    event_types,
    to_text,
)
from smallmind_engine.telemetry.eventlog.following import follow
from smallmind_engine.telemetry.eventlog.reading import EventLog, in_our_time, read_file, rotated
from smallmind_engine.telemetry.eventlog.records import (
    LOG_SCHEMA,
    HealthReport,
    LogHeader,
    LossReport,
    Record,
    Unreadable,
    new_header,
    record_from,
    record_line,
)
from smallmind_engine.telemetry.eventlog.replay import (
    EventSourcedMetrics,
    Replayer,
    ReplayReport,
    Restorable,
    replay,
)

__all__ = [
    "LOG_SCHEMA",
    "EventLog",
    "EventSourcedMetrics",
    "HealthReport",
    "LogHeader",
    "LossReport",
    "Record",
    "ReplayReport",
    "Replayer",
    "Restorable",
    "UnknownEventError",
    "Unreadable",
    "event_from",
    "event_line",
    "event_types",
    "follow",
    "in_our_time",
    "new_header",
    "read_file",
    "record_from",
    "record_line",
    "replay",
    "rotated",
    "to_text",
]
