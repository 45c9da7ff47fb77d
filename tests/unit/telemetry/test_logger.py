"""Log calls become events, and events become lines that cannot be forged."""

from __future__ import annotations

import io
import json
import re
import sys
from datetime import UTC, datetime

import pytest

from smallmind_engine.telemetry import (
    ALL_KINDS,
    ANCHOR,
    ClosedError,
    ConsoleRuntimeLogger,
    Correlation,
    Degraded,
    DegradeReason,
    EventBus,
    EventKind,
    InferenceStopped,
    LoggerExporter,
    LogLevel,
    ModelLoadEnded,
    NullRuntimeLogger,
    ReasonCode,
    RequestStatus,
    RuntimeLogEvent,
    RuntimeLoggerAdapter,
    StopReason,
    TokenizerDiagnosed,
    as_log_event,
    correlated,
    now_ns,
)
from smallmind_engine.telemetry.log_rendering import NOTABLE_KINDS
from telemetry_doubles import IDS, Recorder, publish_tokens
from telemetry_samples import EVENT_TYPES, sample


class Unprintable:
    def __str__(self):
        raise ValueError


def log_event(message="it happened", level=LogLevel.INFO, ids=IDS, **fields):
    return RuntimeLogEvent(1, now_ns(), ids, level, "gguf", message, **fields)


def line_of(event, **options):
    stream = io.StringIO()
    ConsoleRuntimeLogger(LogLevel.TRACE, stream, **options).log_event(event)
    return stream.getvalue()


@pytest.fixture
def recorded():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    return RuntimeLoggerAdapter("gguf", bus.emitter(IDS)), recorder


@pytest.mark.parametrize("name", ["trace", "debug", "info", "warn", "error", "warning"])
def test_each_level_has_its_call(recorded, name):
    log, recorder = recorded
    getattr(log, name)("it happened", size=3)
    [event] = recorder.events
    assert (LogLevel[name.upper().removesuffix("ING")], "gguf", "it happened") == (
        event.level,
        event.component,
        event.message,
    )
    assert event.properties == {"size": 3}
    assert event.correlation is IDS


def test_reason_and_error_are_on_the_event_and_the_errors_text_is_a_property(recorded):
    log, recorder = recorded
    log.warning("odd", reason=ReasonCode.CLOSED, error=ValueError("boom"))
    [event] = recorder.events
    assert (event.reason, event.error, event.properties) == (
        ReasonCode.CLOSED,
        "ValueError",
        {"detail": "boom"},
    )


def test_an_error_of_ours_brings_its_own_reason(recorded):
    log, recorder = recorded
    log.error("shut", error=ClosedError(ReasonCode.CLOSED, "it was shut"))
    assert (recorder.events[0].reason, recorder.events[0].error) == (
        ReasonCode.CLOSED,
        "ClosedError",
    )


def test_four_properties_fill_the_slots_and_more_share_the_last(recorded):
    log, recorder = recorded
    log.info("four", a=1, b=2, c=3, d=4)
    log.info("six", a=1, b=2, c=3, d=4, e=5, f=6)
    assert recorder.events[0].properties == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert recorder.events[1].properties == {
        "a": 1,
        "b": 2,
        "c": 3,
        "more": (("d", 4), ("e", 5), ("f", 6)),
    }


def test_properties_may_be_named_like_arguments(recorded):
    log, recorder = recorded
    log.info("odd names", level=1, message=2, self=3)
    assert recorder.events[0].properties == {"level": 1, "message": 2, "self": 3}


def test_an_adapter_on_the_bus_takes_the_current_ids():
    bus, recorder = EventBus(), Recorder()
    log = RuntimeLoggerAdapter("gguf", bus)
    assert not log.is_enabled(LogLevel.ERROR)
    log.error("nobody listens")
    bus.subscribe(recorder)
    assert log.is_enabled(LogLevel.TRACE)
    with correlated(IDS):
        log.info("inside")
    log.info("outside")
    assert recorder.events[0].correlation is IDS
    assert re.fullmatch(r"req-[0-9a-f]{20}", recorder.events[1].correlation.request_id)


def test_an_adapter_publishes_finished_events_as_they_are(recorded):
    log, recorder = recorded
    event = log_event()
    log.log_event(event)
    assert recorder.events[0] is event


def test_the_null_logger_takes_nothing():
    null = NullRuntimeLogger()
    assert not any(null.is_enabled(level) for level in LogLevel)
    assert null.log_event(log_event()) is None


def test_a_console_line_tells_time_level_component_message_properties_and_ids():
    event = log_event(
        "the file was read", key1="size", value1=7, reason=ReasonCode.CLOSED, error="E"
    )
    moment, rest = line_of(event).split(" ", 1)
    assert rest == (
        "INFO  gguf: the file was read size=7 reason=CLOSED error=E request_id=req-1 "
        f"session_id=alice trace_id={IDS.trace_id}\n"
    )
    read = datetime.fromisoformat(moment)
    assert read.tzinfo == UTC
    assert abs(read.timestamp() - ANCHOR.to_wall_ns(event.time_ns) / 1e9) < 1e-5


def test_ids_that_do_not_exist_are_left_out():
    ids = Correlation("r", None, "ab" * 16, "cd" * 8, 0, has_parent=False)
    assert "session_id" not in line_of(log_event(ids=ids))


@pytest.mark.parametrize(
    "char", ["\n", "\r", "\x1b[31m", "\0", "\x85", "\u2028", "\u202e", "\x9b", "\ud800"]
)
def test_no_character_can_break_a_line_or_reach_the_terminal(char):
    line = line_of(log_event(f"a{char}b", key1=f"k{char}", value1=f"v{char}", error=f"E{char}"))
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert len(line.splitlines()) == 1


def test_a_value_cannot_pretend_to_be_another_property():
    line = line_of(log_event("odd", key1="name", value1='x" request_id=forged'))
    assert 'name="x\\" request_id=forged"' in line


def test_a_message_cannot_pretend_to_be_a_property():
    assert '"odd request_id=forged" request_id=req-1' in line_of(log_event("odd request_id=forged"))


def test_a_quoted_value_can_be_read_back_as_json_when_it_is_plain_text():
    text = 'say "hi" \\ now'
    quoted = re.search(r'name=("(?:[^"\\]|\\.)*")', line_of(log_event(key1="name", value1=text)))[1]
    assert text == json.loads(quoted)


def test_an_empty_value_and_an_unprintable_one_are_shown():
    line = line_of(log_event(key1="empty", value1="", key2="odd", value2=Unprintable()))
    assert 'empty="" odd="<unprintable Unprintable>"' in line


def test_a_huge_value_is_cut_and_says_so():
    line = line_of(log_event(key1="big", value1="x" * 1_000_000))
    assert len(line) < 3000
    assert "...(+998000)" in line


def test_levels_below_the_lowest_are_left_out():
    stream = io.StringIO()
    logger = ConsoleRuntimeLogger(LogLevel.WARN, stream)
    assert [logger.is_enabled(level) for level in LogLevel] == [False, False, False, True, True]
    for level in LogLevel:
        logger.log_event(log_event(level.name, level))
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["WARN", "ERROR"]


def test_stderr_is_looked_up_at_each_event(monkeypatch):
    logger = ConsoleRuntimeLogger()
    later = io.StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    logger.log_event(log_event())
    assert later.getvalue().count("\n") == 1
    monkeypatch.setattr(sys, "stderr", None)
    logger.log_event(log_event())


def test_a_stream_that_knows_only_ascii_gets_escapes():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleRuntimeLogger(stream=stream).log_event(log_event("größer"))
    stream.flush()
    assert b"gr\\xf6\\xdfer" in raw.getvalue()


def test_a_logger_on_the_bus_shows_log_events_and_notable_lifecycle_events():
    bus, stream = EventBus(), io.StringIO()
    exporter = LoggerExporter(ConsoleRuntimeLogger(LogLevel.TRACE, stream))
    bus.subscribe(exporter)
    emitter = bus.emitter(IDS)
    RuntimeLoggerAdapter("gguf", emitter).info("it happened")
    emitter.publish(
        Degraded(*emitter.header(), "exporter:x", DegradeReason.EVENTS_DROPPED, "3 lost")
    )
    publish_tokens(emitter, 5)
    assert bus.flush(10.0)["logger"].complete
    bus.close()
    first, second = stream.getvalue().splitlines()
    assert " INFO  gguf: it happened " in first
    assert " WARN  exporter:x: 3 lost reason=EVENTS_DROPPED request_id=req-1" in second


def test_a_logger_exporter_may_be_inline_and_without_lifecycle_and_is_silent_when_closed():
    bus, stream = EventBus(), io.StringIO()
    exporter = LoggerExporter(ConsoleRuntimeLogger(stream=stream), lifecycle=False, inline=True)
    bus.subscribe(exporter)
    assert bus.wants == EventKind.LOG
    log = RuntimeLoggerAdapter("gguf", bus)
    log.info("it happened")
    log.debug("too fine")
    exporter.close()
    exporter.close()
    log.info("too late")
    assert (stream.getvalue().count("\n"), exporter.flush(1.0).complete) == (1, True)


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda t: t.__name__)
def test_every_notable_event_reads_as_a_log_event_with_the_same_ids(event_type):
    event = sample(event_type)
    told = as_log_event(event)
    if not event.kind & (NOTABLE_KINDS | EventKind.LOG):
        assert told is None
        return
    assert (event.sequence, event.time_ns, event.correlation) == told[:3]
    assert told.message
    assert told.component
    reason = getattr(event, "reason", None)
    assert told.reason == (None if reason is None else ReasonCode(reason))


def test_the_kinds_of_each_token_and_of_progress_are_not_notable():
    assert ALL_KINDS - NOTABLE_KINDS == (
        EventKind.LOG
        | EventKind.TOKEN_GENERATED
        | EventKind.MODEL_LOAD_PROGRESS
        | EventKind.KV_CACHE_USAGE
        | EventKind.KERNEL_EXECUTED
        | EventKind.MEMORY_USAGE
        | EventKind.BATCH_STEPPED
        | EventKind.TOKEN_QUALITY
    )


@pytest.mark.parametrize(
    ("status", "level"),
    [
        (RequestStatus.COMPLETED, LogLevel.INFO),
        (RequestStatus.CANCELLED, LogLevel.INFO),
        (RequestStatus.REJECTED, LogLevel.WARN),
        (RequestStatus.FAILED, LogLevel.ERROR),
    ],
)
def test_what_failed_is_an_error_and_what_was_turned_away_a_warning(status, level):
    stopped = sample(InferenceStopped)._replace(
        status=status, reason=StopReason.ERROR, error_type="OSError"
    )
    told = as_log_event(stopped)
    assert (level, ReasonCode.ERROR, "OSError") == (told.level, told.reason, told.error)
    assert as_log_event(sample(ModelLoadEnded)._replace(status=status)).level == level


def test_a_tokenizer_with_issues_is_a_warning_that_lists_them():
    issues = (DegradeReason.TOKENIZER_MERGES_MISSING, DegradeReason.TOKENIZER_VOCAB_PARTIAL)
    told = as_log_event(sample(TokenizerDiagnosed)._replace(issues=issues))
    assert (LogLevel.WARN, ",".join(issues)) == (told.level, told.properties["issues"])
    assert as_log_event(sample(TokenizerDiagnosed)._replace(issues=())).level == LogLevel.INFO
