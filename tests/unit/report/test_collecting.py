"""What a report knows is what the log says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_logs import everything, write_log
from smallmind._report import collect
from smallmind._report.distributions import Durations
from smallmind._report.drawing import STRIP_HEIGHT, TIMELINE_WIDTH, strip, timeline
from smallmind.replay import EventLog
from smallmind_engine.telemetry import (
    InferenceStopped,
    StopReason,
    TokenGenerated,
)
from telemetry_events import headers, model_load, rejected_request, request


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "events.jsonl"


def contents_of(path: Path, events):
    write_log(path, events)
    return collect(EventLog.open(path))


def test_every_request_is_there_with_its_times_and_tokens(path):
    contents = contents_of(path, everything())
    assert [each.status for each in contents.requests] == ["completed", "rejected"]
    first = contents.requests[0]
    tokens = [e for e in everything() if isinstance(e, TokenGenerated)]
    assert list(first.engine_s) == [token.engine_s for token in tokens]
    assert list(first.consumer_s) == [token.consumer_s for token in tokens]
    assert first.begun_ns < first.admitted_ns < first.started_ns < first.prefilled_ns
    assert contents.loads[0].fingerprint == "sha256:0123456789ab"


def test_degradations_are_counted_by_reason_with_the_last_example(path):
    contents = contents_of(path, [*everything(), *rejected_request(headers("r2", first=900))])
    found = {(each.what, each.reason): each.count for each in contents.notable}
    assert found["request turned away", "BACKPRESSURE_QUEUE_FULL"] == 2
    assert found["runtime", "CONTEXT_TRUNCATION"] == 1
    assert found["tokenizer", "TOKENIZER_MERGES_MISSING"] == 1
    assert found["memory for kv_cache", "MEMORY_BUDGET_SOFT_LIMIT"] == 1
    assert found["KV cache", "KV_CACHE_EVICTION"] == 1
    assert contents.notable[0].count == 2


def test_a_request_that_the_log_does_not_see_end_is_unfinished(path):
    contents = contents_of(path, list(request(headers()))[:-2])
    (only,) = contents.requests
    assert only.status == "unfinished"
    assert only.duration_s == (only.latest_ns - only.begun_ns) / 1e9


def test_a_request_whose_beginning_is_missing_begins_where_it_is_known(path):
    events = [e for e in request(headers()) if isinstance(e, TokenGenerated | InferenceStopped)]
    (only,) = contents_of(path, events).requests
    assert only.admitted_ns is None
    assert only.status == "completed"
    assert timeline(collect(EventLog.open(path))).rows[0].boxes


def test_two_requests_of_one_id_are_two(path):
    twice = [*request(headers()), *request(headers(first=100), reason=StopReason.ERROR)]
    assert [each.status for each in contents_of(path, twice).requests] == ["completed", "failed"]


def test_boxes_of_the_timeline_lie_inside_it_in_the_order_of_the_phases(path):
    drawn = timeline(contents_of(path, everything()))
    kinds = [box.kind for box in drawn.rows[0].boxes if box.kind != "consumer"]
    assert kinds == ["queue", "prepare", "prefill", "decode"]
    for row in drawn.rows:
        for box in row.boxes:
            assert box.x >= 0
            assert box.x + box.width <= TIMELINE_WIDTH + 2


def test_a_log_without_requests_is_drawn_empty(path):
    contents = contents_of(path, model_load(headers()))
    assert contents.requests == ()
    assert timeline(contents).rows == ()


@given(st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=100))
def test_percentiles_are_those_of_numpy_and_bins_hold_every_value(values):
    seen = Durations.of(values)
    expected = np.percentile(values, list(seen.percentiles_s))
    assert np.allclose(list(seen.percentiles_s.values()), expected, rtol=1e-9)
    assert sum(each.count for each in seen.bins) == seen.count == len(values)
    assert np.isclose(seen.mean_s, np.mean(values))


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=20))
def test_durations_that_cannot_be_are_left_out(values):
    seen = Durations.of(values)
    assert seen.count == sum(0.0 <= value < 1e12 for value in values)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), max_size=60))
def test_bars_of_tokens_stay_inside_the_strip(pairs):
    boxes = strip([engine for engine, _ in pairs], [reader for _, reader in pairs])
    for box in boxes:
        assert box.y >= -0.02
        assert box.y + box.height <= STRIP_HEIGHT + 0.02
        assert 0 <= box.x <= TIMELINE_WIDTH
