"""The builders of event streams, which other tests lean on."""

from __future__ import annotations

from smallmind_engine.telemetry import EventKind, InferenceStopped
from telemetry_events import every_kind, headers, request


def test_the_stream_of_every_kind_leaves_no_kind_out():
    assert {event.kind for event in every_kind(headers())} == set(EventKind)


def test_the_ledger_of_a_built_request_adds_up_to_its_duration():
    stopped = [e for e in request(headers()) if isinstance(e, InferenceStopped)]
    assert sum(seconds for _, seconds in stopped[0].ledger) == stopped[0].duration_s
