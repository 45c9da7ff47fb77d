"""Laws of log lines, of distributions and of the queue's accounts."""

from __future__ import annotations

import io
import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from smallmind_engine.telemetry import (
    ConsoleRuntimeLogger,
    EventBus,
    LogLevel,
    QueuedExporter,
    RuntimeLogEvent,
)
from smallmind_engine.telemetry.distribution import DurationSamples
from telemetry_doubles import IDS, Recorder, token

law = settings(derandomize=True, deadline=None, max_examples=80)
anything = st.one_of(st.text(), st.binary(), st.integers(), st.floats(), st.none())
WORD = r'(?:"(?:[^"\\]|\\.)*"|[^\s="\\]+)'
LINE = re.compile(
    rf'\S+Z (?:TRACE|DEBUG|INFO |WARN |ERROR) {WORD}: (?:"(?:[^"\\]|\\.)*"|[^="\\]+) '
    rf"{WORD}={WORD} error={WORD} request_id=req-1 session_id=alice trace_id={'ab' * 16}\n"
)


@law
@given(st.text(), st.text(), st.text(min_size=1), anything, st.text(), st.sampled_from(LogLevel))
def test_whatever_it_holds_an_event_is_one_line_of_one_grammar(
    component, message, key, value, error, level
):
    stream = io.StringIO(newline="")
    event = RuntimeLogEvent(
        1, 2, IDS, level, component, message, error=error, key1=key, value1=value
    )
    ConsoleRuntimeLogger(LogLevel.TRACE, stream).log_event(event)
    line = stream.getvalue()
    assert len(line.splitlines()) == 1
    assert line[:-1].isprintable()
    assert LINE.fullmatch(line), line


@law
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_percentiles_are_those_of_numpy_and_lie_in_order(values):
    samples = DurationSamples()
    for value in values:
        samples.add(value)
    seen = samples.summary()
    expected = np.percentile(values, [50, 95, 99])
    assert np.allclose([seen.p50_s, seen.p95_s, seen.p99_s], expected, rtol=1e-9, atol=1e-12)
    assert seen.min_s <= seen.p50_s <= seen.p95_s <= seen.p99_s <= seen.max_s


@law
@given(st.permutations([0.1, 0.2, 0.3, 1e-9, 7.7, 123.456]))
def test_sums_do_not_depend_on_the_order(values):
    samples = DurationSamples()
    for value in values:
        samples.add(value)
    assert (
        samples.summary().mean_s
        == (100_000_000 * 6 + 1 + 7_700_000_000 + 123_456_000_000) / 6 / 1e9
    )


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.integers(1, 20), st.lists(st.one_of(st.just("flush"), st.integers(1, 30)), max_size=12))
def test_every_event_is_delivered_or_dropped_and_the_newest_survive(capacity, steps):
    recorder = Recorder()
    queue = QueuedExporter(recorder, capacity=capacity)
    emitter = EventBus().emitter(IDS)
    sent = 0
    for step in [*steps, 3]:
        if step == "flush":
            assert not queue.flush(30.0).timed_out
            continue
        for index in range(sent, sent + step):
            queue.export(token(emitter, index))
        sent += step
    answer = queue.flush(30.0)
    indexes = [event.index for event in recorder.events]
    assert (sent, len(indexes), 0) == (
        answer.delivered + answer.dropped,
        answer.delivered,
        answer.pending,
    )
    assert sorted(indexes) == indexes
    assert indexes[-1] == sent - 1
    queue.close()
