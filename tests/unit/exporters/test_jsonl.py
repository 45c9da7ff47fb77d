"""The JSON Lines exporter: rotating files, and honest about what it could not write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines import tiny_engine
from event_logs import everything, workload, write_log
from smallmind_engine.telemetry import (
    ALL_KINDS,
    EventBus,
    EventKind,
    FlushResult,
    ReasonCode,
    Snapshot,
)
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.eventlog import (
    EventLog,
    HealthReport,
    LogHeader,
    LossReport,
    Unreadable,
    read_file,
)
from smallmind_exporters import record_file
from smallmind_exporters.jsonl import JsonLinesExporter
from telemetry_doubles import publish_tokens
from telemetry_events import correlation, headers, request

ASK = {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "logs" / "events.jsonl"


def tokens(count: int, **options: object):
    return [e for e in request(headers(), tokens=count, **options) if "Token" in type(e).__name__]


def test_a_log_holds_every_event_in_order_after_a_header(path):
    write_log(path, everything())
    header, *rest = read_file(path)
    assert isinstance(header, LogHeader)
    assert (header.part, header.pid, header.schema) == (1, os.getpid(), 1)
    assert header.software.startswith("smallmind ")
    assert rest == everything()


def test_a_full_file_is_followed_by_the_next_and_the_oldest_go(path):
    write_log(path, tokens(400), max_bytes=20_000, keep_files=2)
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "events.jsonl",
        "events.jsonl.1",
        "events.jsonl.2",
    ]
    log = EventLog.open(path)
    assert not log.whole
    parts = [next(iter(read_file(each))).part for each in log.paths]
    assert parts == list(range(parts[-1] - 2, parts[-1] + 1))
    kept = [event for event in log.events() if not isinstance(event, Snapshot)]
    assert kept == tokens(400)[-len(kept) :]


def test_each_further_file_begins_with_what_was_counted_before(path):
    write_log(path, tokens(400), max_bytes=60_000)
    log = EventLog.open(path)
    seen = 0
    for number, each in enumerate(log.paths):
        header, second, *rest = read_file(each)
        assert header.part == number + 1
        if number:
            assert isinstance(second, Snapshot)
            assert second.counted == seen - 1  # FirstToken moves no metric
        seen += len(rest) + (not number)


def test_snapshots_come_after_so_many_events(path):
    write_log(path, tokens(100), snapshot_events=25)
    counted = [e.counted for e in EventLog.open(path).events() if isinstance(e, Snapshot)]
    assert counted == [24, 49, 74, 99]


def test_what_another_process_left_is_moved_aside_and_not_mixed_in(path):
    write_log(path, tokens(3))
    write_log(path, tokens(5))
    log = EventLog.open(path)
    assert log.whole
    assert log.paths == (path,)
    assert list(log.events()) == tokens(5)
    assert list(EventLog.open(path.with_name("events.jsonl.1")).events()) == tokens(3)


def test_two_writers_at_one_path_write_two_logs(path):
    with JsonLinesExporter(path) as first, JsonLinesExporter(path) as second:
        for event in tokens(3):
            first.export(event)
            second.export(event)
        assert first.path == path
        assert second.path.name == f"events.{os.getpid()}.jsonl"
    assert [list(EventLog.open(e.path).events()) for e in (first, second)] == [tokens(3)] * 2


def test_the_flight_recorders_events_are_only_wanted_when_it_is_switched_on(path, monkeypatch):
    recorded = EventKind.REQUEST_RECORDED
    assert not JsonLinesExporter(path).interests & recorded
    assert JsonLinesExporter(path, record_requests=True).interests & recorded
    monkeypatch.setenv("SMALLMIND_FLIGHT_RECORDER", "1")
    assert JsonLinesExporter(path).interests & recorded
    assert not JsonLinesExporter(path, record_requests=False).interests & recorded


def test_the_path_comes_from_the_environment_when_none_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALLMIND_JSONL_PATH", str(tmp_path / "named.jsonl"))
    with tiny_engine(tmp_path, exporters=["jsonl"]) as engine:
        engine.generate("ab", **ASK)
    assert EventLog.open(tmp_path / "named.jsonl").whole


@pytest.mark.parametrize("option", ["max_bytes", "keep_files", "snapshot_events"])
def test_impossible_sizes_are_refused(path, option):
    with pytest.raises(ConfigError) as caught:
        JsonLinesExporter(path, **{option: 0})
    assert caught.value.reason is ReasonCode.OPTION_INVALID


class FullDisk:
    """``os.write`` on a disk that takes ``room`` more bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def __call__(self, fd: int, data: bytes) -> int:
        taken = min(len(data), self.room)
        if not taken:
            raise OSError(28, "No space left on device")
        self.room -= taken
        return self._write(fd, data[:taken])


def test_a_full_disk_costs_counted_events_and_no_half_lines(path, monkeypatch):
    disk = FullDisk(3_000)
    monkeypatch.setattr(record_file.os, "write", disk)
    bus, exporter = EventBus(), JsonLinesExporter(path)
    with bus.subscribe(exporter):
        publish_tokens(bus.emitter(), 50)
        before = bus.flush(5.0)["jsonl"]
        assert before.delivered + before.failed == 50
        assert before.failed > 30
        assert not before.complete
        (health,) = bus.health()
        assert (health.dropped, health.errors, health.attached) == (before.failed, 1, True)
        assert "No space left" in health.last_error
        disk.room = 10**9
        publish_tokens(bus.emitter(), 10)
        after = bus.flush(5.0)["jsonl"]
    exporter.close()
    assert (after.delivered, after.failed) == (before.delivered + 10, before.failed)
    records = [*EventLog.open(path).records()]
    assert not [record for record in records if isinstance(record, Unreadable)]
    losses = [record for record in records if isinstance(record, LossReport)]
    assert [loss.events for loss in losses] == [before.failed]
    assert "No space left" in losses[0].cause
    snapshots = [record for record in records if isinstance(record, Snapshot)]
    assert [snapshot.counted for snapshot in snapshots] == [50]
    written = [r for r in records if type(r).__name__ == "TokenGenerated"]
    assert len(written) == after.delivered


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_is_full_from_the_start_changes_no_token(tmp_path):
    exporter = JsonLinesExporter("/dev/full")
    with tiny_engine(tmp_path) as silent, tiny_engine(tmp_path, exporters=[exporter]) as engine:
        expected = silent.generate("ab", **ASK)
        assert engine.generate("ab", **ASK).token_ids == expected.token_ids
        told = engine.flush()["jsonl"]
        (health,) = engine.exporter_health
    assert told.delivered == 0
    assert told.failed == exporter.lost == health.dropped > 6
    assert "No space left" in health.last_error


def test_a_path_that_cannot_be_written_to_changes_no_token(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    exporter = JsonLinesExporter(blocked / "events.jsonl")
    with tiny_engine(tmp_path) as silent, tiny_engine(tmp_path, exporters=[exporter]) as engine:
        expected = silent.generate("ab", **ASK)
        result = engine.generate("ab", **ASK)
        told = engine.flush()["jsonl"]
        (health,) = engine.exporter_health
    assert result.token_ids == expected.token_ids
    assert told.delivered == 0
    assert told.failed == exporter.lost == health.dropped > 6
    assert blocked.read_text() == "in the way"


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_file_that_goes_away_is_followed_by_a_new_one_that_knows_what_was_counted(path, how):
    with JsonLinesExporter(path) as exporter:
        for event in tokens(3):
            exporter.export(event)
        if how == "deleted":
            path.unlink()
        else:
            path.rename(path.with_name("taken-by-logrotate"))
        for event in tokens(2):
            exporter.export(event)
        assert exporter.flush(1.0) == FlushResult(delivered=len(tokens(3)) + len(tokens(2)))
    log = EventLog.open(path)
    snapshot, *events = log.events()
    assert (log.header.part, snapshot.counted, events) == (2, 3, tokens(2))


def test_an_event_that_cannot_be_coded_is_lost_alone(path):
    good = tokens(2)
    with JsonLinesExporter(path) as exporter:
        bad = good[0]._replace(correlation=None)
        with pytest.raises(AttributeError):
            exporter.export(bad)
        for event in good:
            exporter.export(event)
        assert exporter.flush(1.0) == FlushResult(delivered=len(good))
        assert exporter.lost == 1


_CHILD = """
import os, sys
sys.path[:0] = {path!r}
from smallmind_exporters.jsonl import JsonLinesExporter
from telemetry_events import headers, model_load, request
exporter = JsonLinesExporter(sys.argv[1])
for event in model_load(headers()):
    exporter.export(event)
pid = os.fork()
for event in request(headers("child" if pid == 0 else "parent")):
    exporter.export(event)
if pid == 0:
    os._exit(0 if exporter.flush(1.0).complete else 1)
assert os.waitpid(pid, 0)[1] == 0
print(pid)
"""


def test_a_forked_child_writes_a_log_of_its_own(path):
    script = _CHILD.format(path=sys.path)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    own = path.with_name(f"events.{done.stdout.strip()}.jsonl")
    for log, name in ((EventLog.open(path), "parent"), (EventLog.open(own), "child")):
        ids = {e.correlation.request_id for e in log.events() if e.kind == EventKind.FIRST_TOKEN}
        assert ids == {name}
    first, *_ = EventLog.open(own).events()
    assert isinstance(first, Snapshot)
    assert first.counted == 0
    (info,) = [values for name, values, _ in first.series if name == "model_info"]
    assert "llama" in info


def test_the_log_tells_how_the_exporters_fared_once_for_each_change(path):
    bus, exporter = EventBus(), JsonLinesExporter(path)
    exporter.bind_health(bus.health)
    with bus.subscribe(exporter):
        workload(bus, 2)
        for _ in range(3):
            bus.flush(5.0)
    exporter.close()
    reports = [r for r in EventLog.open(path).records() if isinstance(r, HealthReport)]
    assert [[h.name for h in report.exporters] for report in reports] == [["jsonl"]]


def test_a_million_bytes_of_one_message_stay_one_line(path):
    (event,) = [e for e in everything() if type(e).__name__ == "RuntimeLogEvent"]
    message = '\n{"event":"fake"}\r\u2028\x85\x00' * 50_000
    write_log(path, [event._replace(message=message), event])
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[1])["data"]["message"] == message
    assert [e.message for e in EventLog.open(path).events()] == [message, event.message]


def test_it_wants_all_that_is_published_unless_told_otherwise(path):
    assert JsonLinesExporter(path).interests == ALL_KINDS
    narrow = JsonLinesExporter(path, interests=EventKind.LOG)
    assert narrow.interests == EventKind.LOG


def test_ids_of_a_request_are_on_its_lines(path):
    bus, exporter = EventBus(), JsonLinesExporter(path)
    with bus.subscribe(exporter):
        publish_tokens(bus.emitter(correlation("req-9")), 2)
        bus.flush(5.0)
    exporter.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert {line["correlation"]["request_id"] for line in lines} == {"req-9"}
