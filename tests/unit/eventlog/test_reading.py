"""Reading logs, whole, damaged, of other versions, and while they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from event_logs import everything, write_log
from smallmind_engine.telemetry import ANCHOR, Event, ReasonCode, Snapshot
from smallmind_engine.telemetry.errors import EventLogError
from smallmind_engine.telemetry.eventlog import (
    EventLog,
    LogHeader,
    Unreadable,
    follow,
    read_file,
    reading,
)
from smallmind_exporters.jsonl import JsonLinesExporter
from telemetry_events import headers, request


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "events.jsonl"


def test_a_torn_last_line_is_told_and_the_rest_is_read(path):
    write_log(path, everything())
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    *records, last = EventLog.open(path).records()
    assert records[1:] == everything()[:-1]
    assert isinstance(last, Unreadable)
    assert last.torn


def test_damage_in_the_middle_costs_its_line_only(path):
    write_log(path, everything())
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"\x00\xff garbage\n"
    lines.insert(5, b"\n")
    path.write_bytes(b"".join(lines))
    records = list(EventLog.open(path).records())
    (bad,) = [record for record in records if isinstance(record, Unreadable)]
    assert (bad.line, bad.torn, bad.unknown) == (4, False, False)
    assert len([r for r in records if isinstance(r, Event)]) == len(everything()) - 1


def test_a_line_without_end_is_passed_by_in_bounded_memory(path, monkeypatch):
    write_log(path, everything())
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 2_000)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"x" * 7_000 + b"\n", *lines[2:]]))
    records = list(read_file(path))
    assert [type(record) for record in records[1:4]] == [
        type(everything()[0]),
        Unreadable,
        type(everything()[1]),
    ]


@pytest.mark.parametrize("content", [b"", b"hello\n", b'{"event":"x"}\n', b"\x1f\x8b\x00"])
def test_a_file_that_is_no_log_is_refused_by_name(path, content):
    path.write_bytes(content)
    with pytest.raises(EventLogError) as caught:
        EventLog.open(path)
    assert caught.value.reason is ReasonCode.EVENT_LOG_UNREADABLE
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(path):
    with pytest.raises(EventLogError) as caught:
        EventLog.open(path)
    assert caught.value.reason is ReasonCode.EVENT_LOG_UNREADABLE


def test_a_log_of_another_format_is_refused_with_who_wrote_it(path):
    write_log(path, everything())
    header, *lines = path.read_text().splitlines(keepends=True)
    document = {**json.loads(header), "smallmind_event_log": 2, "software": "smallmind 9.0"}
    path.write_text(json.dumps(document) + "\n" + "".join(lines))
    with pytest.raises(EventLogError, match=r"smallmind 9\.0 in format 2") as caught:
        EventLog.open(path)
    assert caught.value.reason is ReasonCode.EVENT_LOG_SCHEMA_UNSUPPORTED


def test_times_are_those_of_the_writers_wall_clock(path):
    write_log(path, everything())
    header, *lines = path.read_text().splitlines(keepends=True)
    document = json.loads(header)
    document["anchor"] = {"monotonic_ns": 0, "wall_ns": 1_700_000_000_000_000_000}
    path.write_text(json.dumps(document) + "\n" + "".join(lines))
    for read, written in zip(EventLog.open(path).events(), everything(), strict=True):
        assert ANCHOR.to_wall_ns(read.time_ns) == 1_700_000_000_000_000_000 + written.time_ns
        assert read._replace(time_ns=written.time_ns) == written


def test_a_log_that_is_being_written_is_followed_over_its_rotations(path):
    events = list(request(headers(), tokens=120))
    exporter = JsonLinesExporter(path, max_bytes=20_000)
    waiting = iter(events)
    following = follow(path, lambda: _export_next(exporter, waiting))
    seen = [record for record in following if isinstance(record, Event)]
    exporter.close()
    assert len(EventLog.open(path).paths) > 2
    assert [event for event in seen if not isinstance(event, Snapshot)] == events


def test_following_waits_for_a_file_that_is_not_there_yet(path):
    turns = iter([lambda: None, lambda: write_log(path, everything()), lambda: None])

    def wait() -> bool:
        turn = next(turns, None)
        if turn is not None:
            turn()
        return turn is not None

    header, *events = follow(path, wait)
    assert isinstance(header, LogHeader)
    assert events == everything()


def test_following_does_not_take_half_a_line_for_a_whole_one(path):
    write_log(path, everything())
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    added = iter([whole[1000:2500], whole[2500:]])

    def wait() -> bool:
        rest = next(added, None)
        if rest is not None:
            with path.open("ab") as file:
                file.write(rest)
        return rest is not None

    _, *events = follow(path, wait)
    assert events == everything()


def _export_next(exporter: JsonLinesExporter, waiting) -> bool:
    event = next(waiting, None)
    if event is not None:
        exporter.export(event)
    return event is not None
