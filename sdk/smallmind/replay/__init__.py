"""Logs of events after the fact: rebuild what exporters knew, and run recorded requests again."""

from smallmind.replay.recorded import RecordedRequest, recorded_requests
from smallmind.replay.verifying import Outcome, Verification, verify, verify_request
from smallmind_engine.telemetry.eventlog import (
    EventLog,
    EventSourcedMetrics,
    ReplayReport,
    follow,
    replay,
)

__all__ = [
    "EventLog",
    "EventSourcedMetrics",
    "Outcome",
    "RecordedRequest",
    "ReplayReport",
    "Verification",
    "follow",
    "recorded_requests",
    "replay",
    "verify",
    "verify_request",
]
