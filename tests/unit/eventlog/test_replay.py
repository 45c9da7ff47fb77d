"""Replay: an exporter that gets the log ends where it was in the live run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engines import tiny_engine
from event_logs import everything, workload, write_log
from smallmind import CancellationToken
from smallmind_engine.telemetry import (
    ALL_KINDS,
    BY_NAME_ONLY,
    SNAPSHOT_SCHEMA,
    Degraded,
    DegradeReason,
    EventBus,
    ExporterHealth,
    InMemoryRuntimeMetrics,
    QueuedExporter,
    Snapshot,
)
from smallmind_engine.telemetry.eventlog import EventLog, EventSourcedMetrics, event_line, replay
from smallmind_exporters.jsonl import JsonLinesExporter
from smallmind_exporters.memory import InMemoryExporter
from smallmind_exporters.prometheus import PrometheusExporter
from telemetry_doubles import publish_tokens
from telemetry_events import headers, request

SAMPLED = {"max_tokens": 5, "seed": 3, "ignore_eos": True}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "events.jsonl"


def generate_live(folder: Path, path: Path, **options: object) -> tuple[bytes, object]:
    """A real workload of several outcomes; the exposition and the metrics at its end."""
    metrics = InMemoryRuntimeMetrics()
    with (
        PrometheusExporter() as prometheus,
        JsonLinesExporter(path, **options) as log,
        tiny_engine(
            folder, exporters=[prometheus, log], metrics=metrics, detail="kernel"
        ) as engine,
    ):
        for text in ("ab", "abc abc", "b"):
            engine.generate(text, **SAMPLED)
        with engine.stream("abab", **SAMPLED) as stream:
            list(stream)
        token = CancellationToken()
        engine.generate("a", on_token=lambda _: token.cancel(), cancellation=token, **SAMPLED)
        with engine.session("alice") as session:
            session.generate("ab", **SAMPLED)
            session.generate("ba", **SAMPLED)
        assert engine.flush()["jsonl"].complete
        return prometheus.render(openmetrics=True), metrics.snapshot()


def test_prometheus_shows_the_same_bytes_after_a_replay_as_after_the_live_run(tmp_path, path):
    live, _ = generate_live(tmp_path, path)
    with PrometheusExporter() as replayed:
        report = replay(EventLog.open(path), [replayed])
        assert replayed.render(openmetrics=True) == live
    assert report.complete
    assert report.events > 50
    assert b"trace_id=" in live
    assert b'exporter="jsonl"' in live


def test_prometheus_shows_the_same_bytes_from_a_log_whose_beginning_is_gone(tmp_path, path):
    live, _ = generate_live(tmp_path, path, max_bytes=60_000, keep_files=1)
    log = EventLog.open(path)
    assert not log.whole
    with PrometheusExporter() as replayed:
        report = replay(log, [replayed])
        assert replayed.render(openmetrics=True) == live
    assert report.counted_before
    assert report.complete


def test_metrics_of_a_log_are_those_that_the_process_had(tmp_path, path):
    _, live = generate_live(tmp_path, path)
    assert EventSourcedMetrics.from_log(EventLog.open(path)).snapshot() == live


def test_event_sourced_metrics_on_a_bus_are_those_in_memory():
    bus, metrics, sourced = EventBus(), EventSourcedMetrics(), InMemoryRuntimeMetrics()
    with bus.subscribe(metrics), bus.subscribe(EventSourcedMetrics(sourced)):
        workload(bus)
    assert metrics.snapshot() == sourced.snapshot()
    assert metrics.snapshot().tokens_generated == sum(n % 5 for n in range(20))
    assert metrics.flush(1.0).complete
    metrics.close()


def test_an_exporter_gets_the_kinds_it_wants_in_the_order_of_the_log(path):
    write_log(path, everything())
    memory = InMemoryExporter(interests=ALL_KINDS | BY_NAME_ONLY)
    replay(EventLog.open(path), [memory])
    assert list(memory.events) == everything()


def test_requests_that_run_at_a_snapshot_are_still_counted_in_flight(path):
    events = list(request(headers(), tokens=150))[:-1]
    write_log(path, events, max_bytes=20_000, keep_files=1)
    log = EventLog.open(path)
    assert not log.whole
    with PrometheusExporter() as replayed:
        replay(log, [replayed])
        assert b'requests_in_flight{model="tiny"} 1.0' in replayed.render()


def with_snapshot_of(path: Path, **changes: object) -> EventLog:
    """A log whose beginning is gone, its snapshot changed."""
    write_log(path, list(request(headers(), tokens=150)), max_bytes=20_000, keep_files=1)
    log = EventLog.open(path)
    first = log.paths[0]
    lines = first.read_text().splitlines(keepends=True)
    assert '"Snapshot"' in lines[1]
    document = json.loads(lines[1])
    document["data"].update(changes)
    first.write_text("".join([lines[0], json.dumps(document) + "\n", *lines[2:]]))
    return EventLog.open(path)


def test_a_snapshot_of_another_schema_is_left_alone_and_told(path):
    log = with_snapshot_of(path, schema=SNAPSHOT_SCHEMA + 1)
    with PrometheusExporter() as replayed:
        report = replay(log, [replayed])
    assert (report.from_snapshot, report.complete) == (False, False)


def test_families_and_buckets_that_are_not_ours_are_left_out_of_a_snapshot(path):
    odd = [["unheard_of_total", ["tiny"], [3]], ["time_to_first_token_seconds", ["tiny"], [1, 2]]]
    log = with_snapshot_of(path, series=odd, bounds=[["time_to_first_token_seconds", [1.0]]])
    with PrometheusExporter() as replayed:
        assert replay(log, [replayed]).from_snapshot
        assert b"unheard_of" not in replayed.render()


def test_a_log_whose_beginning_is_gone_without_a_snapshot_is_not_complete(path):
    log = with_snapshot_of(path)
    first = log.paths[0]
    lines = first.read_text().splitlines(keepends=True)
    first.write_text("".join([lines[0], *lines[2:]]))
    assert not replay(EventLog.open(path), []).complete


def test_what_is_missing_is_told(path):
    dropped = Degraded(
        *headers()(),
        component="exporter:jsonl",
        reason=DegradeReason.EVENTS_DROPPED,
        message="17 events were dropped because the queue was full",
    )
    write_log(path, [*everything(), dropped])
    with path.open("a") as file:
        file.write('{"lost":{"events":5,"cause":"OSError"}}\n')
        file.write('{"later":1}\nnonsense\n{"ev')
    report = replay(EventLog.open(path), [])
    assert (report.dropped, report.lost, report.unknown, report.damaged, report.torn) == (
        17, 5, 1, 1, 1,
    )  # fmt: skip
    assert not report.complete


def test_what_a_full_queue_dropped_is_told_by_the_log_itself(path):
    bus, exporter = EventBus(), JsonLinesExporter(path)
    queue = QueuedExporter(exporter, capacity=10)
    exporter.bind_health(lambda: (ExporterHealth("jsonl", True, 0, queue.dropped, ""),))  # noqa: FBT003 - a row
    with exporter._lock, bus.subscribe(queue):  # the disk is slow: the first event waits for it
        publish_tokens(bus.emitter(), 100)
        dropped = queue.dropped
    assert not queue.flush(10.0).complete
    queue.close()
    assert dropped >= 88
    report = replay(EventLog.open(path), [])
    assert report.dropped == dropped
    assert report.events == 100 - dropped
    assert not report.complete


def test_a_snapshot_in_the_middle_changes_nothing(path):
    write_log(path, everything(), snapshot_events=3)
    assert '"Snapshot"' in path.read_text()
    with PrometheusExporter() as live, PrometheusExporter() as replayed:
        for event in everything():
            live.export(event)
        replay(EventLog.open(path), [replayed])
        assert replayed.render() == live.render()


def test_a_snapshots_line_is_of_moderate_size(tmp_path, path):
    generate_live(tmp_path, path, snapshot_events=20)
    sizes = [len(event_line(e)) for e in EventLog.open(path).events() if isinstance(e, Snapshot)]
    assert 0 < max(sizes) < 64 * 1024
