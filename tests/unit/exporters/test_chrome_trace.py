"""The Chrome trace exporter: records that every viewer of the format can open."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrome_traces import by_track, check_rules, parsed, slices
from engines import tiny_engine
from event_strategies import any_event
from smallmind_engine.telemetry import EventBus, InferenceStopped, KVCacheEvicted, TokenGenerated
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.eventlog import event_types
from smallmind_exporters.chrome_trace import ChromeTraceExporter
from smallmind_exporters.chrome_trace.tracks import Tracks
from telemetry_events import (
    correlation,
    every_kind,
    headers,
    model_load,
    operations,
    publish,
    request,
)

ASK = {"max_tokens": 5, "temperature": 0.0, "ignore_eos": True}
LANE = 100


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "trace.json"


def traced(path: Path, events, **options: object) -> list[dict]:
    with ChromeTraceExporter(path, **options) as exporter:
        for event in events:
            if event.kind & exporter.interests:
                exporter.export(event)
    return parsed(path)


def test_a_request_is_a_slice_with_its_phases_inside(path):
    records = traced(path, request(headers()))
    check_rules(records)
    names = [name for _, _, name in slices(by_track(records)[LANE])]
    assert names[0] == "req-1"
    assert [n for n in names if n != "reader"][1:] == ["queue", "prepare", "prefill", "decode"]
    (end,) = [r for r in records if r["ph"] == "E" and r["name"] == "req-1"]
    assert end["args"]["reason"] == "MAX_TOKENS"
    assert end["args"]["decode_s"] == 3 * 0.03125


def test_tokens_are_instants_with_the_time_of_engine_and_reader(path):
    records = traced(path, request(headers()))
    instants = [r for r in records if r["ph"] == "i" and r["cat"] == "token"]
    assert [r["name"] for r in instants] == ["first token", *(f"token {n}" for n in range(4))]
    assert instants[2]["args"] == {"engine_s": 0.03125, "consumer_s": 0.0078125}


def test_a_slow_reader_is_a_slice_between_two_tokens(path):
    records = traced(path, request(headers(), tokens=3, wait_s=0.0005))
    waits = [r for r in records if r["ph"] == "X" and r["name"] == "reader"]
    tokens = [r["ts"] for r in records if r["name"].startswith("token")]
    assert [(w["ts"], w["dur"]) for w in waits] == [(tokens[0], 500.0), (tokens[1], 500.0)]


def test_depth_in_flight_and_cache_are_counters(path):
    records = traced(path, request(headers()))
    counters = Counter(r["name"] for r in records if r["ph"] == "C")
    assert counters == {
        "queue depth": 2,
        "requests in flight": 1,
        "KV cache tokens": 1,
        "KV cache bytes": 1,
    }


def test_loading_is_a_slice_with_its_phases_in_their_order(path):
    records = traced(path, [e._replace(time_ns=e.time_ns * 1000) for e in model_load(headers())])
    check_rules(records)
    names = [name for _, _, name in slices(by_track(records)[LANE])]
    assert names == ["load tiny", "read", "weights"]


def test_every_kind_of_event_keeps_the_rules(path):
    check_rules(traced(path, every_kind(headers())))


@given(st.lists(any_event, max_size=8))
def test_records_are_strict_json_whatever_events_hold(events):
    tracks = Tracks()
    for event in events:
        for record in tracks.records_of(event):
            json.dumps(record, allow_nan=False, default=str)


@given(st.data())
def test_the_rules_hold_however_requests_interleave_and_events_are_lost(data):
    streams = [
        list(request(headers(f"r{n}"), tokens=n))
        + (list(request(headers(f"r{n}"))) if n == 2 else [])
        for n in range(4)
    ]
    tracks, records, time_ns = Tracks(), [], 0
    while any(streams):
        stream = data.draw(st.sampled_from([s for s in streams if s]))
        event = stream.pop(0)
        time_ns += 1_000
        if data.draw(st.integers(0, 4)):
            records += tracks.records_of(event._replace(time_ns=time_ns))
    check_rules(records + tracks.end_all())


def test_requests_at_once_have_lanes_to_themselves_and_hand_them_on(tmp_path, path):
    exporter = ChromeTraceExporter(path)
    barrier = threading.Barrier(3)
    with tiny_engine(tmp_path, exporters=[exporter], detail="kernel") as engine:

        def work() -> None:
            engine.generate("abc", on_token=lambda chunk: chunk.index or barrier.wait(), **ASK)

        for _ in range(2):
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert engine.flush()["chrome_trace"].complete
    exporter.close()
    records = parsed(path)
    check_rules(records)
    lanes = {track for track in by_track(records) if LANE <= track < 10_000}
    assert lanes == {LANE, LANE + 1, LANE + 2}
    shared = slices(by_track(records)[3])  # of the steps that ran for several requests
    assert {"qkv 0", "attention 0"} <= {name for _, _, name in shared}
    requests = [r for r in records if r["ph"] == "B" and r["name"].startswith("req-")]
    assert len(requests) == 6


def test_operations_of_a_request_lie_one_after_the_other_inside_its_time(tmp_path, path):
    exporter = ChromeTraceExporter(path)
    with tiny_engine(tmp_path, exporters=[exporter], detail="kernel") as engine:
        engine.generate("abc", **ASK)
        engine.flush()
    exporter.close()
    tracks = by_track(parsed(path))
    kernels = slices(tracks[10_000])
    assert {"qkv 0", "attention 0"} <= {name for _, _, name in kernels}
    for (_, ended, _), (begun, _, _) in pairwise(kernels):
        assert begun >= ended
    (whole,) = [each for each in slices(tracks[LANE]) if each[2].startswith("req-")]
    assert whole[0] <= kernels[0][0]
    assert kernels[-1][1] <= whole[1]


def test_operations_with_the_ids_of_a_request_are_on_its_own_lane(path):
    events = list(request(headers("r1"), tokens=2))
    inside = operations(headers("r1", first=5))
    records = traced(path, [*events[:4], *inside, *events[4:]])
    check_rules(records)
    assert {record["name"] for record in by_track(records)[10_000]} == {"qkv 0", "output"}


_DIES = """
import os, sys
sys.path[:0] = {path!r}
from smallmind_engine.telemetry.eventlog import event_types
from smallmind_exporters.chrome_trace import ChromeTraceExporter
from telemetry_events import headers, request
exporter = ChromeTraceExporter(sys.argv[1])
for event in list(request(headers()))[:-3]:
    exporter.export(event)
os._exit(0)
"""


def test_the_trace_of_a_process_that_died_can_be_opened(path):
    script = _DIES.format(path=sys.path)
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    records = parsed(path, closed=False)
    check_rules(records, closed=False)
    assert next(r["name"] for r in records if r["ph"] == "B") == "req-1"


def test_a_trace_that_is_full_ends_well_and_counts_what_is_missing(path):
    bus, exporter = EventBus(), ChromeTraceExporter(path, max_bytes=20_000)
    with bus.subscribe(exporter):
        for number in range(30):
            publish(bus, request, correlation(f"r{number}"))
        flushed = bus.flush(5.0)["chrome_trace"]
        (health,) = bus.health()
    exporter.close()
    assert flushed.failed == exporter.lost == health.dropped > 0
    assert path.stat().st_size < 22_000
    parsed(path)


def test_what_is_there_already_is_moved_aside(path):
    traced(path, request(headers()))
    first = path.read_bytes()
    traced(path, request(headers(), tokens=1))
    assert path.with_name("trace.json.1").read_bytes() == first


def test_steps_of_batches_are_slices_of_the_scheduler(path):
    batch = event_types().get("BatchStepped")
    if batch is None:
        pytest.skip("this engine has no batches")
    header = headers(first=20)
    steps = [
        batch(*header(), "tiny", sequences=n, prefill_tokens=8 * (n == 1), decode_tokens=n,
              duration_s=0.0005 * n, queue_depth=0, running=n)
        for n in (1, 2, 3)
    ]  # fmt: skip
    records = traced(path, [*model_load(headers()), *steps])
    check_rules(records)
    shown = [(name, round(ended - begun)) for begun, ended, name in slices(by_track(records)[2])]
    assert shown == [("prefill", 500), ("decode", 1000), ("decode", 1000)]  # the last one is cut


def test_kinds_without_a_way_of_their_own_are_marks(path):
    records = traced(path, [e for e in every_kind(headers()) if type(e) is KVCacheEvicted])
    (mark,) = [r for r in records if r["ph"] == "i"]
    assert mark["name"] == "KVCacheEvicted KV_CACHE_EVICTION"
    assert mark["args"]["freed_bytes"] == 131_072


def test_a_path_that_cannot_be_written_to_changes_no_token(tmp_path):
    (tmp_path / "file").write_text("in the way")
    exporter = ChromeTraceExporter(tmp_path / "file" / "trace.json")
    with tiny_engine(tmp_path) as silent, tiny_engine(tmp_path, exporters=[exporter]) as engine:
        assert engine.generate("ab", **ASK).token_ids == silent.generate("ab", **ASK).token_ids
        told = engine.flush()["chrome_trace"]
        assert told.failed == exporter.lost == engine.exporter_health[0].dropped > 6


def test_an_impossible_size_is_refused(path):
    with pytest.raises(ConfigError):
        ChromeTraceExporter(path, max_bytes=0)


def test_requests_whose_beginning_was_lost_are_shown_from_where_they_are_known(path):
    events = [e for e in request(headers()) if isinstance(e, TokenGenerated | InferenceStopped)]
    records = traced(path, events)
    check_rules(records)
    assert slices(by_track(records)[LANE])[0][2] == "req-1"
