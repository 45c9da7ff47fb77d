"""The structlog exporter: what it writes, in whose configuration, and what it never does."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from smallmind_engine.telemetry import (
    DegradeReason,
    EventBus,
    InferenceStopped,
    LogLevel,
    Phase,
    ReasonCode,
    RuntimeLogEvent,
    StopReason,
)
from smallmind_engine.telemetry.errors import MissingExtraError
from smallmind_exporters.structured import StructlogExporter
from smallmind_exporters.structured.lines import CANONICAL_KEYS, ID_KEYS
from telemetry_doubles import Recorder
from telemetry_events import (
    MODEL,
    SPAN_ID,
    TRACE_ID,
    correlation,
    every_kind,
    headers,
    publish,
    rejected_request,
    request,
    troubles,
)

IDS = correlation("req-1", session_id="alice")


@pytest.fixture(autouse=True)
def _own_configuration() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


def written(events, output, *processors, **options):
    structlog.configure(
        processors=list(processors), logger_factory=structlog.PrintLoggerFactory(output)
    )
    with StructlogExporter(**options) as exporter:
        for event in events:
            if event.kind & exporter.interests:
                exporter.export(event)
    return output.getvalue()


def captured(events, **options):
    with capture_logs() as lines, StructlogExporter(**options) as exporter:
        for event in events:
            if event.kind & exporter.interests:
                exporter.export(event)
    return lines


def test_a_request_is_one_line_that_says_it_all():
    (line,) = captured(request(headers(IDS)))
    assert line.pop("occurred_at").endswith("+00:00")
    assert line == {
        "event": "request",
        "log_level": "info",
        "model": MODEL,
        "backend": "numpy",
        "operation": "text_completion",
        "streaming": True,
        "status": "completed",
        "reason": "MAX_TOKENS",
        "prompt_tokens": 12,
        "cached_tokens": 4,
        "completion_tokens": 4,
        "duration_s": 0.445312,
        "time_to_first_token_s": 0.328125,
        "kv_tokens": 16,
        "kv_bytes": 16384,
        "phase_queue_s": 0.0625,
        "phase_prefill_s": 0.25,
        "phase_decode_s": 0.09375,
        "phase_consumer_s": 0.023438,
        "phase_unattributed_s": 0.015625,
        "request_id": "req-1",
        "session_id": "alice",
        "trace_id": TRACE_ID,
        "span_id": SPAN_ID,
    }


def test_its_keys_are_those_of_the_table():
    (line,) = captured(request(headers(IDS), reason=StopReason.ERROR))
    known = {key.name for key in CANONICAL_KEYS} | {name for name, _ in ID_KEYS}
    phases = {f"phase_{phase}_s" for phase in Phase}
    assert set(line) - {"event", "log_level"} <= known | phases
    assert known - {"non_finite_at"} <= set(line)


@pytest.mark.parametrize(
    ("reason", "level"),
    [
        (StopReason.COMPLETED, "info"),
        (StopReason.CANCELLED_BY_CALLER, "info"),
        (StopReason.MEMORY_BUDGET_EXCEEDED, "warning"),
        (StopReason.ERROR, "error"),
    ],
)
def test_its_level_tells_how_it_ended(reason, level):
    (line,) = captured(request(headers(IDS), reason=reason))
    assert line["log_level"] == level


def test_each_notable_event_has_a_line_with_ids():
    lines = captured(troubles(headers(IDS)))
    assert [line["event"] for line in lines] == [
        "an idle cache was dropped",
        "the memory budget gave less than was asked for",
        "10 of 100 prompt tokens were left out of the middle",
        "something to look at",
    ]
    for line in lines:
        assert (line["request_id"], line["trace_id"], line["span_id"]) == (
            "req-1",
            TRACE_ID,
            SPAN_ID,
        )
    assert lines[0]["reason"] == DegradeReason.KV_CACHE_EVICTION


def test_notable_events_may_be_left_out():
    lines = captured(every_kind(headers(IDS)), notable=False)
    assert [line["event"] for line in lines] == ["request", "request"]


def test_the_engines_own_line_for_the_end_of_a_request_is_not_written_twice():
    stopped = RuntimeLogEvent(9, 9, IDS, LogLevel.INFO, "runtime", "request stopped")
    assert len(captured([*request(headers(IDS)), stopped])) == 1


def test_records_that_came_from_the_host_do_not_go_back_there():
    own = RuntimeLogEvent(9, 9, IDS, LogLevel.INFO, "logging:shop", "sold")
    assert captured([own]) == []


def test_tokens_are_not_asked_for():
    exporter = StructlogExporter()
    tokens = [event for event in request(headers()) if type(event).__name__ == "TokenGenerated"]
    assert not exporter.interests & tokens[0].kind


HOSTILE = 'x" y\n[error    ] forged line\r\x1b[2J\u2028\x00\ud800'


@pytest.mark.parametrize(
    "renderer",
    [
        structlog.processors.JSONRenderer(),
        structlog.dev.ConsoleRenderer(colors=False),
        structlog.processors.KeyValueRenderer(),
        structlog.processors.LogfmtRenderer(),
    ],
    ids=lambda renderer: type(renderer).__name__,
)
def test_no_value_breaks_out_of_its_line(output, renderer):
    event = RuntimeLogEvent(
        1,
        1,
        correlation(HOSTILE, session_id=HOSTILE),
        LogLevel.WARN,
        HOSTILE,
        HOSTILE,
        None,
        HOSTILE,
        "key",
        HOSTILE,
    )
    text = written([event, *request(headers(IDS), model=HOSTILE)], output, renderer)
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text
    assert "\x00" not in text
    text.encode()


def test_lines_of_json_are_json_whatever_the_values(output):
    event = RuntimeLogEvent(
        1,
        1,
        IDS,
        LogLevel.INFO,
        "x",
        "odd",
        None,
        None,
        "nan",
        float("nan"),
        "inf",
        float("inf"),
        "object",
        object(),
        "tuple",
        (1, 2),
    )
    text = written([event], output, structlog.processors.JSONRenderer())

    def refuse(constant):
        raise AssertionError(constant)

    line = json.loads(text, parse_constant=refuse)
    assert (line["nan"], line["inf"], line["tuple"]) == ("nan", "inf", "(1, 2)")


@pytest.mark.parametrize("key", ["event", "self", "method_name", "exc_info", "stack_info"])
def test_keys_that_structlog_takes_for_itself_are_renamed(output, key):
    event = RuntimeLogEvent(1, 1, IDS, LogLevel.INFO, "x", "odd", None, None, key, "mine")
    text = written(
        [event],
        output,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    )
    assert json.loads(text)[f"{key}_"] == "mine"


def test_the_console_shows_a_request_in_one_readable_line(output):
    text = written(
        request(headers(IDS)),
        output,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False),
    )
    assert text.startswith("[info     ] request ")
    assert "completion_tokens=4" in text
    assert "request_id=req-1" in text


def test_the_hosts_configuration_is_read_at_each_line_and_never_changed(output):
    exporter = StructlogExporter()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer(sort_keys=True)],
        logger_factory=structlog.PrintLoggerFactory(output),
    )
    before = dict(structlog.get_config())
    for event in request(headers(IDS)):
        if event.kind & exporter.interests:
            exporter.export(event)
    exporter.close()
    assert json.loads(output.getvalue())["event"] == "request"
    assert structlog.get_config() == before


def test_nothing_is_configured_where_nothing_was(monkeypatch):
    structlog.reset_defaults()
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    with StructlogExporter() as exporter:
        for event in request(headers(IDS)):
            if event.kind & exporter.interests:
                exporter.export(event)
    assert not structlog.is_configured()
    assert "completion_tokens" in output.getvalue()


def test_a_logger_of_the_host_keeps_what_is_bound_to_it(output):
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(output),
    )
    with StructlogExporter(structlog.get_logger().bind(service="shop")) as exporter:
        for event in request(headers(IDS)):
            if event.kind & exporter.interests:
                exporter.export(event)
    assert json.loads(output.getvalue())["service"] == "shop"


def test_context_of_other_requests_does_not_leak_into_a_line(output):
    """The line is written in a thread of the bus, so its ids come from the event alone."""
    structlog.contextvars.bind_contextvars(request_id="the thread's own")
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(output),
    )
    bus = EventBus()
    with StructlogExporter() as exporter, bus.subscribe(exporter):
        publish(bus, request, IDS)
        assert bus.flush(5.0)["structlog"].complete
    structlog.contextvars.clear_contextvars()
    assert json.loads(output.getvalue())["request_id"] == "req-1"


def test_a_processor_that_raises_reaches_no_request_and_is_told(output):
    def broken(*_):
        raise RuntimeError("processor")

    structlog.configure(processors=[broken], logger_factory=structlog.PrintLoggerFactory(output))
    bus, seen = EventBus(), Recorder()
    exporter = StructlogExporter()
    with bus.subscribe(seen), bus.subscribe(exporter):
        for number in range(8):
            publish(bus, request, correlation(f"req-{number}"))
        bus.flush(5.0)
        health = {each.name: each for each in bus.health()}["structlog"]
    exporter.close()
    assert len(seen.of(InferenceStopped)) == 8
    assert (health.errors, health.attached) == (5, False)
    assert health.last_error == "RuntimeError: processor"
    reasons = [event.reason for event in seen.of(RuntimeLogEvent)]
    assert ReasonCode.EXPORTER_FAILED in reasons


def test_a_processor_that_drops_a_line_is_no_fault(output):
    def drop(*_):
        raise structlog.DropEvent

    structlog.configure(processors=[drop], logger_factory=structlog.PrintLoggerFactory(output))
    with StructlogExporter() as exporter:
        for event in rejected_request(headers(IDS)):
            if event.kind & exporter.interests:
                exporter.export(event)
        assert exporter.flush(1.0).delivered == 3
    assert output.getvalue() == ""


def test_without_structlog_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "structlog", None)
    with pytest.raises(MissingExtraError, match=r"smallmind\[structlog\]"):
        StructlogExporter()
