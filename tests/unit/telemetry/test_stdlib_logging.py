"""The bridge to ``logging``, both ways."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from smallmind_engine.telemetry import (
    ANCHOR,
    BusLoggingHandler,
    Degraded,
    DegradeReason,
    EventBus,
    EventKind,
    LogLevel,
    ReasonCode,
    RuntimeLogEvent,
    RuntimeLoggerAdapter,
    StdlibLoggingExporter,
    correlated,
)
from smallmind_engine.telemetry.stdlib_logging import from_stdlib_level
from telemetry_doubles import IDS, Recorder


class Keeper(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def host():
    """A host's own configuration of the ``smallmind`` logger, undone afterwards."""
    keeper, logger = Keeper(), logging.getLogger("smallmind")
    logger.addHandler(keeper)
    logger.setLevel(1)
    yield keeper
    logger.removeHandler(keeper)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def bus():
    bus = EventBus()
    yield bus
    bus.close()


@pytest.fixture
def foreign():
    logger = logging.getLogger("host.db")
    logger.setLevel(1)
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def flushed(bus):
    assert all(answer.complete for answer in bus.flush(10.0).values())


def test_log_events_arrive_at_the_components_logger_with_ids_and_properties(bus, host):
    bus.subscribe(StdlibLoggingExporter())
    log = RuntimeLoggerAdapter("gguf", bus.emitter(IDS))
    log.warning("a tensor is odd", reason=ReasonCode.GGUF_TENSOR_SHAPE, tensor="blk 0", size=3)
    flushed(bus)
    [record] = host.records
    assert (record.name, record.levelno) == ("smallmind.gguf", logging.WARNING)
    assert record.getMessage() == 'a tensor is odd tensor="blk 0" size=3'
    assert (IDS.request_id, IDS.session_id, IDS.trace_id, IDS.span_id) == (
        record.request_id,
        record.session_id,
        record.trace_id,
        record.span_id,
    )
    assert (
        record.reason,
        record.error,
        record.tensor,
        record.size,
    ) == ("GGUF_TENSOR_SHAPE", None, "blk 0", 3)
    assert record.properties == {"tensor": "blk 0", "size": 3}


@pytest.mark.parametrize(
    ("level", "number", "name"),
    [
        (LogLevel.TRACE, 5, "TRACE"),
        (LogLevel.DEBUG, 10, "DEBUG"),
        (LogLevel.INFO, 20, "INFO"),
        (LogLevel.WARN, 30, "WARNING"),
        (LogLevel.ERROR, 40, "ERROR"),
    ],
)
def test_levels_are_mapped_there_and_back(bus, host, level, number, name):
    exporter = StdlibLoggingExporter()
    exporter.export(RuntimeLogEvent(1, 2, IDS, level, "c", "m"))
    assert (number, name) == (host.records[0].levelno, host.records[0].levelname)
    assert from_stdlib_level(number) is level
    assert from_stdlib_level(number + 4) is level
    assert logging.getLevelName(5) == "Level 5"


def test_a_record_is_dated_at_the_event(host):
    StdlibLoggingExporter().export(
        RuntimeLogEvent(1, ANCHOR.monotonic_ns, IDS, LogLevel.INFO, "c", "m")
    )
    [record] = host.records
    assert abs(record.created - ANCHOR.wall_ns / 1e9) < 1e-5
    assert record.msecs == ANCHOR.wall_ns // 10**6 % 1000


def test_the_hosts_level_decides(bus, host):
    logging.getLogger("smallmind.gguf").setLevel(logging.ERROR)
    try:
        bus.subscribe(StdlibLoggingExporter())
        RuntimeLoggerAdapter("gguf", bus).warn("quiet")
        RuntimeLoggerAdapter("gguf", bus).error("loud")
        flushed(bus)
    finally:
        logging.getLogger("smallmind.gguf").setLevel(logging.NOTSET)
    assert [record.getMessage() for record in host.records] == ["loud"]


def test_properties_named_like_a_records_own_attributes_do_no_harm(bus, host):
    bus.subscribe(StdlibLoggingExporter())
    RuntimeLoggerAdapter("c", bus.emitter(IDS)).info(
        "odd", name="x", message="y", args="z", request_id="forged"
    )
    flushed(bus)
    [record] = host.records
    assert ("smallmind.c", IDS.request_id) == (record.name, record.request_id)
    assert record.properties["name"] == "x"
    assert logging.Formatter("%(name)s %(message)s").format(record).startswith("smallmind.c odd ")


def test_lifecycle_events_are_told_unless_switched_off(bus, host):
    exporter = StdlibLoggingExporter()
    event = Degraded(1, 2, IDS, "exporter:x", DegradeReason.EVENTS_DROPPED, "3 lost")
    exporter.export(event)
    assert [record.getMessage() for record in host.records] == ["3 lost"]
    assert StdlibLoggingExporter(lifecycle=False).interests == EventKind.LOG
    exporter.close()
    exporter.export(event)
    assert len(host.records) == 1
    assert exporter.flush(1.0).complete


def test_the_hosts_logging_is_left_as_it_was():
    program = """
import logging
def state():
    loggers = dict(logging.Logger.manager.loggerDict)
    return loggers, list(logging.root.handlers), dict(logging._nameToLevel)
before = state()
from smallmind_engine.telemetry import EventBus, RuntimeLoggerAdapter, StdlibLoggingExporter
assert before == state()
bus = EventBus(); bus.subscribe(StdlibLoggingExporter())
RuntimeLoggerAdapter("c", bus).trace("hidden"); RuntimeLoggerAdapter("c", bus).info("hidden")
bus.flush(5.0)
assert logging.root.handlers == [] and logging.getLogger("smallmind.c").handlers == []
assert dict(logging._nameToLevel) == before[2] and logging.root.level == logging.WARNING
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], check=True, timeout=60, capture_output=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def test_what_is_logged_at_the_very_end_still_reaches_the_hosts_file(tmp_path):
    program = f"""
import logging
logging.basicConfig(filename={str(tmp_path / "host.log")!r}, level=5, filemode="w")
from smallmind_engine.telemetry import EventBus, RuntimeLoggerAdapter, StdlibLoggingExporter
bus = EventBus(); bus.subscribe(StdlibLoggingExporter())
for number in range(200):
    RuntimeLoggerAdapter("c", bus).info("line", number=number)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
    assert len((tmp_path / "host.log").read_text().splitlines()) == 200


def test_the_hosts_records_become_log_events_with_the_current_ids(bus, foreign):
    recorder = Recorder()
    bus.subscribe(recorder)
    foreign.addHandler(BusLoggingHandler(bus))
    with correlated(IDS):
        foreign.warning("took %d ms", 7, extra={"table": "users"})
        foreign.error("failed", exc_info=OSError("gone"))
    first, second = recorder.events
    assert (first.level, first.component, first.message) == (
        LogLevel.WARN,
        "logging:host.db",
        "took 7 ms",
    )
    assert (first.properties, first.correlation) == ({"table": "users"}, IDS)
    assert (second.level, second.error) == (LogLevel.ERROR, "OSError")


def test_the_handlers_level_and_an_idle_bus_cost_nothing(bus, foreign):
    foreign.addHandler(BusLoggingHandler(bus, logging.ERROR))
    foreign.error("nobody listens")
    recorder = Recorder()
    bus.subscribe(recorder)
    foreign.warning("too low")
    foreign.error("loud")
    assert [event.message for event in recorder.events] == ["loud"]


def test_a_record_that_cannot_be_formatted_is_reported_the_way_logging_does(bus, capsys):
    bus.subscribe(Recorder())
    record = logging.LogRecord("host", logging.WARNING, __file__, 1, "%d", ("text",), None)
    BusLoggingHandler(bus).handle(record)
    assert "Logging error" in capsys.readouterr().err


def test_with_both_directions_installed_nothing_goes_round(bus, host):
    recorder = Recorder()
    bus.subscribe(recorder)
    bus.subscribe(StdlibLoggingExporter())
    handler = BusLoggingHandler(bus)
    root = logging.getLogger("smallmind")
    root.addHandler(handler)
    try:
        RuntimeLoggerAdapter("c", bus).info("from the engine")
        root.info("from the host")
        for _ in range(3):
            flushed(bus)
    finally:
        root.removeHandler(handler)
    assert sorted(record.getMessage() for record in host.records) == [
        "from the engine",
        "from the host",
    ]
    assert sorted(event.message for event in recorder.events) == [
        "from the engine",
        "from the host",
    ]


def test_a_sink_that_logs_through_the_host_while_exporting_does_not_feed_itself(bus, foreign):
    foreign.addHandler(BusLoggingHandler(bus))
    chatty, other = Recorder("chatty"), Recorder("other")
    chatty.on_export = lambda _: foreign.info("sending")
    bus.subscribe(chatty)
    bus.subscribe(other)
    RuntimeLoggerAdapter("c", bus).info("hello")
    assert (len(chatty.events), len(other.events)) == (1, 2)
