"""A receiver that is down, refuses, hangs or answers with garbage; forks, exits and signals."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from otlp_receiver import RECEIVERS, http_receiver
from smallmind.testing import request_events, sample_correlation
from smallmind_engine.telemetry import (
    BusLoggingHandler,
    DegradeReason,
    EventBus,
    FlushResult,
    InferenceStopped,
    RequestQueued,
)
from smallmind_engine.telemetry.events import Degraded
from smallmind_exporters.memory import InMemoryExporter
from smallmind_exporters.otlp import OtlpExporter

TESTS = Path(__file__).parents[3]
PER_REQUEST = len(request_events())
STEPS = PER_REQUEST - 4
"""Events of a request without its tokens: those that its spans stand for."""
PROTOCOLS = sorted(RECEIVERS)


@pytest.fixture
def nowhere():
    """An address where nobody listens: bound, but not listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def export_requests(exporter, count, *, first=0):
    for number in range(first, first + count):
        for event in request_events(sample_correlation(f"req-{number}")):
            if event.kind & exporter.interests:
                exporter.export(event)


def wanted(exporter):
    return sum(bool(event.kind & exporter.interests) for event in request_events())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_receiver_that_is_down_costs_all_events_and_flush_says_so(nowhere, protocol):
    with OtlpExporter(
        endpoint=nowhere, protocol=protocol, timeout_s=0.3, signals=["traces"]
    ) as exporter:
        export_requests(exporter, 3)
        assert exporter.flush(10.0) == FlushResult(failed=3 * STEPS)
        assert exporter.lost == 3 * STEPS


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_receiver_that_refuses_costs_all_events_and_flush_says_so(protocol):
    with RECEIVERS[protocol]() as received:
        received.behaviour = "refuse"
        with OtlpExporter(
            endpoint=received.endpoint, protocol=protocol, signals=["traces"]
        ) as exporter:
            export_requests(exporter, 2)
            assert exporter.flush(5.0) == FlushResult(failed=2 * STEPS)
            received.behaviour = "accept"
            export_requests(exporter, 1, first=2)
            assert exporter.flush(5.0) == FlushResult(delivered=STEPS, failed=2 * STEPS)
        assert len(received.spans) == 4


def test_garbage_for_an_answer_is_a_failure():
    with http_receiver() as received:
        received.behaviour = "garbage"
        with OtlpExporter(
            endpoint=received.endpoint, timeout_s=0.5, signals=["traces"]
        ) as exporter:
            export_requests(exporter, 2)
            assert exporter.flush(5.0) == FlushResult(failed=2 * STEPS)


@pytest.mark.parametrize("behaviour", ["page", "partial", "nonsense"])
def test_an_answer_of_200_that_is_no_delivery_is_a_failure(behaviour):
    """The SDK looks at the status alone: a proxy's page for passwords would pass for a receiver."""
    with http_receiver() as received:
        received.behaviour = behaviour
        with OtlpExporter(endpoint=received.endpoint) as exporter:
            export_requests(exporter, 2)
            assert exporter.flush(5.0) == FlushResult(failed=2 * STEPS, pending=2 * 4)


def test_an_answer_of_200_in_plain_text_is_a_delivery():
    """Some receivers say no more than that."""
    with http_receiver() as received:
        received.behaviour = "plain"
        with OtlpExporter(endpoint=received.endpoint) as exporter:
            export_requests(exporter, 1)
            assert exporter.flush(5.0) == FlushResult(delivered=PER_REQUEST)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_receiver_that_hangs_holds_up_neither_export_nor_flush_nor_close(protocol):
    with RECEIVERS[protocol]() as received:
        received.behaviour = "hang"
        exporter = OtlpExporter(endpoint=received.endpoint, protocol=protocol)
        before = time.monotonic()
        export_requests(exporter, 20)
        assert time.monotonic() - before < 1.0
        result = exporter.flush(0.2)
        assert time.monotonic() - before < 2.0
        assert result == FlushResult(pending=20 * PER_REQUEST, timed_out=True)
        before = time.monotonic()
        exporter.close()
        assert time.monotonic() - before < 4.0
        received.release.set()


def test_metrics_that_were_refused_are_pending_and_go_with_the_next_export():
    with http_receiver() as received:
        received.behaviour = "refuse"
        with OtlpExporter(endpoint=received.endpoint, signals=["metrics"]) as exporter:
            export_requests(exporter, 2)
            assert exporter.flush(5.0) == FlushResult(pending=2 * wanted(exporter))
            received.behaviour = "accept"
            assert exporter.flush(5.0) == FlushResult(delivered=2 * wanted(exporter))


def test_metrics_that_nobody_ever_confirmed_are_lost_in_the_end(nowhere):
    exporter = OtlpExporter(endpoint=nowhere, signals=["metrics"], timeout_s=0.2)
    export_requests(exporter, 2)
    exporter.close()
    assert exporter.flush(0.0) == FlushResult(dropped=2 * wanted(exporter))


def test_events_of_a_request_that_still_runs_are_pending(receiver):
    with OtlpExporter(endpoint=receiver.endpoint) as exporter:
        events = request_events()
        for event in events[:-1]:
            exporter.export(event)
        assert exporter.flush(5.0) == FlushResult(delivered=4, pending=STEPS - 1)
        exporter.export(events[-1])
        assert exporter.flush(5.0) == FlushResult(delivered=PER_REQUEST)


def test_a_full_outbox_drops_the_oldest_requests_whole_and_counts_their_events(monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "12")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "12")
    with http_receiver() as received:
        received.behaviour = "hang"
        exporter = OtlpExporter(endpoint=received.endpoint, signals=["traces"])
        export_requests(exporter, 3)  # a batch of 12 spans, which hangs
        _eventually(lambda: any(t.name == "smallmind-otlp-traces" for t in threading.enumerate()))
        _eventually(
            lambda: received.release.is_set() or exporter._pipeline._traces._outbox._size == 0
        )
        export_requests(exporter, 5, first=3)  # 20 spans, of which 12 may wait
        received.behaviour = "accept"
        received.release.set()
        result = exporter.flush(5.0)
        exporter.close()
    assert result == FlushResult(delivered=6 * STEPS, dropped=2 * STEPS)
    ids = [s for s in received.spans if s.name.startswith("text_completion")]
    assert len(ids) == 6


def test_requests_that_never_end_are_given_up_within_bounds(receiver, monkeypatch):
    """Their end may have been lost with a full queue; they must not pile up."""
    from smallmind_exporters.otlp import records

    live = records.LiveRecords(ring=4, limit=10)
    for number in range(25):
        live.take(RequestQueued(number, number, sample_correlation(f"req-{number}"), "m", 1))
    assert (live.events, live.given_up) == (10, 15)


def test_losses_behind_the_queue_are_in_the_health_of_the_bus_and_told(nowhere):
    exporter = OtlpExporter(endpoint=nowhere, timeout_s=0.2, signals=["traces"])
    memory = InMemoryExporter()
    bus = EventBus()
    with bus.subscribe(memory), bus.subscribe(exporter):
        emitter = bus.emitter(sample_correlation())
        events = request_events(emitter.correlation)
        for event in events:
            emitter.publish(event)
        lost = sum(bool(event.kind & exporter.interests) for event in events)
        assert bus.flush(5.0)["otlp"].failed == lost
        health = {each.name: each for each in bus.health()}["otlp"]
        assert (health.dropped, health.attached) == (lost, True)
        _eventually(lambda: memory.of(Degraded))
    (told,) = memory.of(Degraded)
    assert (told.component, told.reason) == ("exporter:otlp", DegradeReason.EVENTS_DROPPED)
    exporter.close()


def test_what_a_failing_export_logs_does_not_come_back_as_telemetry(nowhere):
    """Else each failure would be exported, fail, and be logged again, for ever."""
    exporter = OtlpExporter(endpoint=nowhere, timeout_s=0.2)
    bus = EventBus()
    handler = BusLoggingHandler(bus, logging.WARNING)
    root = logging.getLogger("opentelemetry")
    root.addHandler(handler)
    try:
        with bus.subscribe(exporter):
            emitter = bus.emitter(sample_correlation())
            events = request_events(emitter.correlation)
            for event in events:
                emitter.publish(event)
            for _ in range(3):
                result = bus.flush(5.0)["otlp"]
    finally:
        root.removeHandler(handler)
        exporter.close()
    assert (result.failed, result.delivered) == (STEPS, 0)
    told_of_the_loss = result.pending - (len(events) - STEPS)
    assert told_of_the_loss in {0, 1}


def test_the_hosts_instrumentation_is_off_in_our_threads(receiver, monkeypatch):
    """Else each export would be traced, exported, and traced again, for ever."""
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value

    from smallmind_exporters.otlp import wiring

    seen = []
    make = wiring.sdk_exporter

    def watched(*arguments):
        exporter = make(*arguments)
        export = exporter.export

        def watching(*batch, **options):
            seen.append(get_value(_SUPPRESS_INSTRUMENTATION_KEY))
            return export(*batch, **options)

        exporter.export = watching
        return exporter

    monkeypatch.setattr(wiring, "sdk_exporter", watched)
    with OtlpExporter(endpoint=receiver.endpoint) as exporter:
        export_requests(exporter, 1)
        assert exporter.flush(5.0).complete
    assert len(seen) >= 2
    assert set(seen) == {True}


def test_one_exporter_may_serve_two_engines_at_once(receiver):
    exporter = OtlpExporter(endpoint=receiver.endpoint)
    buses = [EventBus(), EventBus()]
    subscriptions = [bus.subscribe(exporter) for bus in buses]

    def work(bus, name):
        for number in range(50):
            emitter = bus.emitter(sample_correlation(f"{name}-{number}"))
            for event in request_events(emitter.correlation, model=name):
                emitter.publish(event)

    threads = [
        threading.Thread(target=work, args=(bus, f"m{index}")) for index, bus in enumerate(buses)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for bus in buses:
        bus.flush(10.0)
    assert exporter.flush(5.0) == FlushResult(delivered=100 * PER_REQUEST)
    for subscription in subscriptions:
        subscription.close()
    exporter.close()
    assert len(receiver.spans) == 400


AT_EXIT = """
import os, signal, sys
sys.path[:0] = {path!r}
from smallmind.testing import request_events
from smallmind_engine.telemetry import EventBus
from smallmind_exporters.otlp import OtlpExporter
exporter = OtlpExporter(protocol={protocol!r})
bus = EventBus()
bus.subscribe(exporter)
emitter = bus.emitter()
{before}
for event in request_events(emitter.correlation):
    emitter.publish(event)
{after}
"""
HANDLER = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))"
TERMINATE = "os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(30)"


def run_to_its_end(received, protocol, before="", after=""):
    script = AT_EXIT.format(path=[str(TESTS)], protocol=protocol, before=before, after=after)
    return subprocess.run(
        [sys.executable, "-c", script],
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("protocol", [pytest.param("grpc", marks=pytest.mark.slow), "http"])
def test_what_waits_is_sent_at_exit_of_the_interpreter(protocol):
    receiver = RECEIVERS["grpc" if protocol == "grpc" else "http/protobuf"]
    with receiver() as received:
        done = run_to_its_end(received, protocol)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(received.spans) == 4
        assert received.metrics


def test_the_documented_handler_of_sigterm_loses_nothing():
    with http_receiver() as received:
        done = run_to_its_end(received, "http", before=HANDLER, after=TERMINATE)
        assert done.returncode == 143
        assert len(received.spans) == 4


@pytest.mark.slow
def test_sigterm_without_a_handler_ends_the_process_at_once_with_what_waits():
    """As documented: Python runs no exit handlers then, and an SDK installs no signal handlers."""
    with http_receiver() as received:
        done = run_to_its_end(received, "http", after=TERMINATE)
        assert done.returncode == -signal.SIGTERM


@pytest.mark.slow
def test_a_receiver_that_hangs_does_not_hold_up_the_exit():
    with http_receiver() as received:
        received.behaviour = "hang"
        before = time.monotonic()
        done = run_to_its_end(received, "http")
        assert done.returncode == 0
        assert time.monotonic() - before < 15.0


FORK = """
import os, sys
sys.path[:0] = {path!r}
from smallmind.testing import request_events, sample_correlation
from smallmind_exporters.otlp import OtlpExporter
exporter = OtlpExporter(protocol={protocol!r}, timeout_s=5)
for event in request_events(sample_correlation("parent")):
    exporter.export(event)
assert exporter.flush(5.0).complete
for event in request_events(sample_correlation("waiting"))[:3]:
    exporter.export(event)
pid = os.fork()
name = "child" if pid == 0 else "again"
for event in request_events(sample_correlation(name), model=name):
    exporter.export(event)
result = exporter.flush(5.0)
if pid == 0:
    os._exit(0 if result.complete else 1)
_, status = os.waitpid(pid, 0)
exporter.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_forked_child_sends_its_own_events_as_another_instance(protocol):
    with RECEIVERS[protocol]() as received:
        done = subprocess.run(
            [sys.executable, "-c", FORK.format(path=[str(TESTS)], protocol=protocol)],
            env={"OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint, "PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        names = [s.name for s in received.spans if s.name.startswith("text_completion")]
        assert sorted(names) == [
            "text_completion again",
            "text_completion child",
            "text_completion sample",
        ]
        assert len({found["service.instance.id"] for found in received.resources}) == 2


def test_the_end_of_a_request_that_nobody_saw_begin_is_still_a_span(receiver):
    """An exporter that lost the beginning to a full queue tells what it knows."""
    with OtlpExporter(endpoint=receiver.endpoint, signals=["traces"]) as exporter:
        (stop,) = [e for e in request_events() if isinstance(e, InferenceStopped)]
        exporter.export(stop)
        assert exporter.flush(5.0) == FlushResult(delivered=1)
    assert [span.name for span in receiver.spans] == ["text_completion sample"]


def _eventually(condition, timeout_s=5.0):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
