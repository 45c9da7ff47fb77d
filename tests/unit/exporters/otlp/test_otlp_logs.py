"""Log events as log records."""

from __future__ import annotations

import pytest

from otlp_receiver import attributes
from smallmind_engine.telemetry import ANCHOR, LogLevel, ReasonCode, RuntimeLogEvent
from telemetry_events import SPAN_ID, TRACE_ID, correlation

IDS = correlation("req-1", session_id="alice")
SEVERITIES = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17}


def log_event(**changes):
    fields = {"level": LogLevel.WARN, "component": "cache", "message": "something odd"}
    return RuntimeLogEvent(7, 5_000_000, IDS, **{**fields, **changes})


def test_a_log_event_is_a_record_with_the_ids_of_its_request(send):
    (record,) = send([log_event()]).logs
    assert (record.trace_id.hex(), record.span_id.hex(), record.flags) == (TRACE_ID, SPAN_ID, 1)
    assert record.body.string_value == "something odd"
    assert record.time_unix_nano == ANCHOR.to_wall_ns(5_000_000)


def test_its_facts_are_attributes(send):
    event = log_event(
        reason=ReasonCode.KV_CACHE_EVICTION,
        error="ValueError",
        key1="tokens",
        value1=12,
        key2="why",
        value2="room",
    )
    (record,) = send([event]).logs
    assert attributes(record.attributes) == {
        "smallmind.component": "cache",
        "smallmind.request_id": "req-1",
        "gen_ai.conversation.id": "alice",
        "smallmind.reason": "KV_CACHE_EVICTION",
        "error.type": "ValueError",
        "smallmind.tokens": 12,
        "smallmind.why": "room",
    }


@pytest.mark.parametrize("level", list(LogLevel))
def test_levels_are_severities(send, level):
    (record,) = send([log_event(level=level)]).logs
    assert (record.severity_text, record.severity_number) == (level.name, SEVERITIES[level.name])


def test_odd_values_are_carried_as_text(send):
    class Unprintable:
        def __str__(self):
            raise RuntimeError

    event = log_event(
        message="line\nbreak \ud800",
        key1="\ud800key",
        value1=Unprintable(),
        key2="big",
        value2=2**80,
        key3="nan",
        value3=float("nan"),
        key4="list",
        value4=[1, "a"],
    )
    (record,) = send([event]).logs
    found = attributes(record.attributes)
    assert record.body.string_value == "line\nbreak ?"
    assert found["smallmind.?key"] == "<unprintable Unprintable>"
    assert found["smallmind.big"] == str(2**80)
    assert found["smallmind.list"] == "[1, 'a']"
