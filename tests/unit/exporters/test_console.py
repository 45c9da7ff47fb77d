"""The live panel, in process: figures from events, drawn by rich."""

from __future__ import annotations

import io
import os
import time
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console

from engines import tiny_engine
from event_logs import write_log
from event_strategies import any_event
from smallmind_engine.telemetry import EventBus, RequestStatus, now_ns
from smallmind_engine.telemetry.errors import MissingExtraError
from smallmind_engine.telemetry.eventlog import EventLog, replay
from smallmind_engine.telemetry.live import LiveTracker, Quantiles
from smallmind_exporters.console import ConsoleExporter
from telemetry_events import correlation, every_kind, headers, publish, request, troubles

SECOND = 1_000_000_000


def recording(width: int = 100, *, terminal: bool = False) -> Console:
    return Console(record=True, file=io.StringIO(), width=width, force_terminal=terminal)


def drawn(events, width: int = 100) -> str:
    console = recording(width)
    with ConsoleExporter(console=console) as exporter:
        for event in events:
            exporter.export(event)
    return console.export_text()


def test_off_a_terminal_the_panel_is_printed_once_at_the_end():
    text = drawn(every_kind(headers()))
    assert text.count("smallmind  tiny (llama, Q4_1, numpy)") == 1
    for word in (
        "Requests",
        "completed",
        "Latency",
        "KV tokens",
        "16/2,048",
        "Speed",
        "MAX_TOKENS",
    ):
        assert word in text, word
    assert "10 of 100 prompt tokens were left out of the middle" in text


def test_without_an_event_nothing_is_printed():
    assert drawn([]) == ""


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_it_fits_into_any_terminal(width):
    text = drawn([*every_kind(headers()), *list(request(headers("r2")))[:6]], width)
    assert max(len(line) for line in text.splitlines()) <= width


def test_on_a_terminal_it_is_drawn_while_events_come():
    console = recording(terminal=True)
    exporter = ConsoleExporter(console=console, redraws_per_second=50)
    for event in request(headers()):
        exporter.export(event)
    deadline = time.monotonic() + 10.0
    while "Latency" not in console.export_text(clear=False):
        assert time.monotonic() < deadline
    exporter.close()
    exporter.close()


def test_requests_under_way_are_shown_with_their_phase_and_tokens():
    events = list(request(headers("req-live"), tokens=9))[:-4]
    text = drawn(events)
    (line,) = [line for line in text.splitlines() if "req-live" in line]
    assert "decode" in line
    assert " 7 " in line


def test_figures_of_a_real_engine_are_those_of_its_results(tmp_path):
    with ConsoleExporter(console=recording()) as exporter:
        with tiny_engine(tmp_path, exporters=[exporter]) as engine:
            results = [engine.generate("ab", max_tokens=5, seed=n) for n in range(3)]
            figures = exporter.figures()
        assert figures.generated_tokens == sum(r.usage.completion_tokens for r in results)
        assert figures.prompt_tokens == sum(r.usage.prompt_tokens for r in results)
        assert dict(figures.ended)["completed"] == 3
        assert (figures.running, figures.waiting, figures.requests) == (0, 0, ())
        assert [each.request_id for each in figures.recent] == [
            result.correlation.request_id for result in reversed(results)
        ]


def test_what_a_terminal_would_act_on_is_escaped():
    evil = "\x1b[31m\x07\r\nx"
    ids = correlation(evil)
    events = [*request(headers(ids), model=evil), *list(request(headers(ids), model=evil))[:5]]
    told = [
        event._replace(**{name: evil for name in ("message", "component") if name in event._fields})
        for event in troubles(headers(), model=evil)
    ]
    text = drawn([*events, *told])
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\x1b[31m" in text


def test_losses_of_exporters_are_shown():
    console = recording()
    exporter = ConsoleExporter(console=console)
    bus = EventBus()
    with bus.subscribe(exporter):
        exporter.bind_health(lambda: tuple(replace(health, dropped=42) for health in bus.health()))
        publish(bus, request)
        exporter.close()
    assert "exporters lost 42 events" in console.export_text()


def test_speed_is_of_the_last_ten_seconds():
    tracker = LiveTracker()
    (token,) = [e for e in request(headers(), tokens=1) if type(e).__name__ == "TokenGenerated"]
    for second in range(30):
        for _ in range(3 if second < 20 else 7):
            tracker.take(token._replace(time_ns=second * SECOND + 5))
    figures = tracker.figures(30 * SECOND)
    assert figures.tokens_per_second == 7.0
    assert figures.history == (3.0,) * 20 + (7.0,) * 10
    assert tracker.figures(1000 * SECOND).tokens_per_second == 0.0


@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(st.lists(any_event, max_size=12))
def test_no_event_makes_the_tracker_or_the_panel_fail(events):
    exporter = ConsoleExporter(console=recording(), live=False)
    for event in events:
        exporter.export(event)
    exporter._console.print(exporter.view(exporter.figures()))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_quantiles_are_among_the_values_and_in_order(values):
    quantiles = Quantiles.of(values)
    assert quantiles.p50_s in values
    assert quantiles.p50_s <= quantiles.p95_s


def test_a_replay_from_a_snapshot_begins_with_its_counts(tmp_path):
    path = tmp_path / "e.jsonl"
    many = [event for n in range(60) for event in request(headers(f"r{n}", first=1 + 20 * n))]
    write_log(path, many, max_bytes=60_000, keep_files=1)
    log = EventLog.open(path)
    assert not log.whole
    with ConsoleExporter(console=recording()) as exporter:
        replay(log, [exporter])
        figures = exporter.figures()
    assert figures.generated_tokens == 240
    assert dict(figures.ended)[RequestStatus.COMPLETED.value] == 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_draws_nothing(tmp_path):
    out = tmp_path / "drawn"
    with out.open("w") as file:
        console = Console(file=file, width=80)
        exporter = ConsoleExporter(console=console)
        exporter.begin_in_child()
        for event in request(headers()):
            exporter.export(event)
        exporter.close()
    assert out.read_text() == ""


def test_without_rich_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    with pytest.raises(MissingExtraError, match=r"smallmind\[cli\]"):
        ConsoleExporter()


def test_times_of_a_log_are_shown_against_the_clock_of_now():
    tracker = LiveTracker()
    (queued, *_) = request(headers())
    tracker.take(queued._replace(time_ns=now_ns() - 2 * SECOND))
    (running,) = tracker.figures(now_ns()).requests
    assert 2.0 <= running.age_s < 60.0
