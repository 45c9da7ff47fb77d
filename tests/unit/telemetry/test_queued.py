"""The bounded queue before a slow exporter."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from smallmind_engine.telemetry import (
    ALL_KINDS,
    ConfigError,
    Degraded,
    DegradeReason,
    EventBus,
    FlushResult,
    QueuedExporter,
    ReasonCode,
)
from smallmind_engine.telemetry.queued import MOST_LINGERING, stop_together
from telemetry_doubles import IDS, Recorder, publish_tokens, raising, token

EMITTER = EventBus().emitter(IDS)


class Gate(Recorder):
    """Holds each export until it is opened; tells when it is inside one."""

    def __init__(self, name="gate"):
        super().__init__(name)
        self.entered = threading.Event()
        self.open = threading.Event()

    def export(self, event, /):
        self.entered.set()
        self.open.wait(30.0)
        super().export(event)


def fill(queue, count, start=0):
    for index in range(start, start + count):
        queue.export(token(EMITTER, index))


def test_events_are_passed_on_in_order():
    recorder = Recorder()
    queue = QueuedExporter(recorder)
    fill(queue, 1000)
    assert queue.flush(10.0) == FlushResult(delivered=1000)
    assert list(range(1000)) == [event.index for event in recorder.events]
    queue.close()


def test_a_blocked_exporter_never_holds_up_the_publisher_and_the_oldest_are_dropped():
    gate = Gate()
    queue = QueuedExporter(gate, capacity=10)
    fill(queue, 1)
    assert gate.entered.wait(10.0)
    began = time.perf_counter()
    fill(queue, 1000, start=1)
    assert time.perf_counter() - began < 5.0
    assert queue.dropped == 990
    gate.open.set()
    assert queue.flush(10.0) == FlushResult(delivered=11, dropped=990)
    assert [0, *range(991, 1001)] == [event.index for event in gate.events]
    queue.close()


def test_flush_honours_its_timeout_when_export_hangs_and_says_what_is_pending():
    gate = Gate()
    queue = QueuedExporter(gate)
    fill(queue, 5)
    assert gate.entered.wait(10.0)
    began = time.perf_counter()
    answer = queue.flush(0.05)
    assert time.perf_counter() - began < 5.0
    assert FlushResult(pending=5, timed_out=True) == answer
    assert not answer.complete
    gate.open.set()
    assert queue.flush(10.0).complete
    queue.close()


def test_flush_honours_its_timeout_when_the_exporters_flush_ignores_it():
    inside = threading.Event()
    recorder = Recorder()
    recorder.flush = lambda timeout_s: inside.wait(30.0) and FlushResult()
    queue = QueuedExporter(recorder)
    fill(queue, 1)
    began = time.perf_counter()
    answer = queue.flush(0.05)
    assert time.perf_counter() - began < 5.0
    assert (answer.delivered, answer.timed_out, answer.complete) == (1, True, False)
    inside.set()
    queue.close()


def test_a_flush_that_gave_up_before_its_turn_is_not_made_up_for_later():
    gate = Gate()
    flushes = []
    gate.flush = lambda timeout_s: flushes.append(timeout_s) or FlushResult()
    queue = QueuedExporter(gate)
    fill(queue, 1)
    assert gate.entered.wait(10.0)
    queue.flush(0.01)
    gate.open.set()
    assert queue.flush(10.0).complete
    assert len(flushes) == 1
    queue.close()


def test_a_flush_is_not_held_up_by_events_that_come_after_it():
    gate = Gate()
    queue = QueuedExporter(gate)
    fill(queue, 1)
    assert gate.entered.wait(10.0)
    answers = []
    flusher = threading.Thread(target=lambda: answers.append(queue.flush(10.0)))
    flusher.start()
    while not queue._flushes:
        time.sleep(0.001)
    fill(queue, 100, start=1)
    gate.open.set()
    flusher.join(10.0)
    assert (answers[0].timed_out, answers[0].pending) == (False, 0)
    queue.close()


def test_the_answer_is_honest_about_what_the_exporter_holds_back():
    recorder = Recorder()
    recorder.flush = lambda timeout_s: FlushResult(failed=1, dropped=2, pending=3, timed_out=True)
    queue = QueuedExporter(recorder)
    fill(queue, 10)
    assert queue.flush(10.0) == FlushResult(
        delivered=4, failed=1, dropped=2, pending=3, timed_out=True
    )
    queue.close()


def test_the_answer_is_honest_about_an_exporter_that_raises():
    errors = []
    queue = QueuedExporter(Recorder(on_export=raising(OSError("sink"))), on_error=errors.append)
    fill(queue, 3)
    answer = queue.flush(10.0)
    assert (answer.delivered, answer.failed, answer.complete) == (0, 3, False)
    assert [str(error) for error in errors if error] == ["sink", "sink", "sink"]
    queue.close()


def test_a_flush_that_raises_is_counted():
    recorder = Recorder()
    recorder.flush = lambda timeout_s: 1 // 0
    errors = []
    queue = QueuedExporter(recorder, on_error=errors.append)
    assert queue.flush(10.0) == FlushResult(failed=1)
    assert [type(error).__name__ for error in errors] == ["ZeroDivisionError"]
    queue.close()


def test_recovery_is_told_once():
    told = []
    recorder = Recorder(on_export=raising(OSError()))
    queue = QueuedExporter(recorder, on_error=told.append)
    fill(queue, 1)
    queue.flush(10.0)
    recorder.on_export = None
    fill(queue, 3)
    queue.flush(10.0)
    assert [error is None for error in told] == [False, True]
    queue.close()


def test_not_even_an_exit_raised_by_the_exporter_ends_its_thread():
    recorder = Recorder(on_export=raising(SystemExit()))
    queue = QueuedExporter(recorder)
    fill(queue, 1)
    queue.flush(10.0)
    recorder.on_export = None
    fill(queue, 1)
    assert queue.flush(10.0) == FlushResult(delivered=1, failed=1)
    queue.close()


def test_listeners_that_raise_do_not_end_the_thread():
    def broken(_):
        raise ValueError

    gate = Gate()
    queue = QueuedExporter(gate, capacity=1, on_error=broken, on_drop=broken)
    gate.on_export = raising(OSError())
    fill(queue, 5)
    gate.open.set()
    queue.flush(10.0)
    gate.on_export = None
    fill(queue, 1)
    assert queue.flush(10.0).delivered == 1
    queue.close()


def test_an_exporter_that_flushes_its_own_queue_does_not_wait_for_itself():
    recorder = Recorder()
    queue = QueuedExporter(recorder)
    recorder.on_export = lambda _: queue.flush(30.0) and None
    fill(queue, 1)
    assert queue.flush(10.0).delivered == 1
    queue.close()


def test_stop_passes_on_what_waits_and_later_events_are_counted_as_dropped():
    recorder = Recorder()
    queue = QueuedExporter(recorder)
    fill(queue, 50)
    queue.stop(10.0)
    assert len(recorder.events) == 50
    fill(queue, 2)
    assert queue.flush(1.0) == FlushResult(delivered=50, dropped=2)


def test_stop_gives_up_on_a_hanging_exporter_and_counts_what_it_left():
    gate = Gate()
    queue = QueuedExporter(gate)
    fill(queue, 10)
    assert gate.entered.wait(10.0)
    began = time.perf_counter()
    queue.stop(0.05)
    assert time.perf_counter() - began < 5.0
    assert queue.dropped == 9
    gate.open.set()
    queue._thread.join(10.0)
    assert len(gate.events) == 1


def test_queues_are_stopped_together_within_one_timeout():
    gates = [Gate(str(number)) for number in range(20)]
    queues = [QueuedExporter(gate) for gate in gates]
    for queue in queues:
        fill(queue, 1)
    began = time.perf_counter()
    stop_together(queues, 0.1)
    assert time.perf_counter() - began < 5.0
    for gate in gates:
        gate.open.set()


def test_close_closes_the_exporter_once_in_its_own_thread():
    recorder = Recorder()
    queue = QueuedExporter(recorder)
    fill(queue, 3)
    queue.close()
    queue.close()
    assert (len(recorder.events), recorder.closed) == (3, 1)


@pytest.mark.parametrize(
    "before", [lambda queue: None, lambda queue: (fill(queue, 1), queue.stop())]
)
def test_close_closes_the_exporter_when_there_is_no_thread(before):
    recorder = Recorder()
    queue = QueuedExporter(recorder)
    before(queue)
    queue.close()
    assert recorder.closed == 1


def test_close_leaves_a_hanging_exporter_to_its_thread_which_closes_it_in_the_end(monkeypatch):
    monkeypatch.setattr("smallmind_engine.telemetry.queued.STOP_TIMEOUT_S", 0.05)
    gate = Gate()
    queue = QueuedExporter(gate)
    monkeypatch.setattr(queue, "stop", lambda: QueuedExporter.stop(queue, 0.05))
    fill(queue, 3)
    assert gate.entered.wait(10.0)
    queue.close()
    assert gate.closed == 0
    gate.open.set()
    queue._thread.join(10.0)
    assert (len(gate.events), gate.closed) == (1, 1)


def test_tokens_do_not_wake_the_thread_that_has_just_passed_one_on(monkeypatch):
    monkeypatch.setattr("smallmind_engine.telemetry.queued.LINGER_S", 30.0)
    recorder = Recorder()
    queue = QueuedExporter(recorder)
    fill(queue, 1)
    while not recorder.events or queue._asleep or not queue._wake.empty():
        time.sleep(0.001)
    fill(queue, 50, start=1)
    assert (queue._wake.empty(), len(recorder.events)) == (True, 1)
    queue.export(Degraded(*EMITTER.header(), "test", DegradeReason.EVENTS_DROPPED, "now"))
    while len(recorder.events) < 52:
        time.sleep(0.001)
    assert list(range(51)) == [event.index for event in recorder.events[:51]]
    queue.close()


def test_tokens_that_woke_nobody_are_passed_on_all_the_same():
    recorder = Recorder()
    queue = QueuedExporter(recorder)
    fill(queue, 1)
    while not recorder.events or queue._asleep:
        time.sleep(0.001)
    fill(queue, 50, start=1)
    while len(recorder.events) < 51:
        time.sleep(0.001)
    queue.close()


def test_many_tokens_wake_the_thread_however_soon_they_come(monkeypatch):
    monkeypatch.setattr("smallmind_engine.telemetry.queued.LINGER_S", 30.0)
    recorder = Recorder()
    queue = QueuedExporter(recorder)
    fill(queue, 1)
    while not recorder.events or queue._asleep or not queue._wake.empty():
        time.sleep(0.001)
    fill(queue, MOST_LINGERING + 1, start=1)
    while len(recorder.events) < MOST_LINGERING + 2:
        time.sleep(0.001)
    queue.close()


def test_a_patient_exporter_is_not_woken_by_events_of_its_patient_kinds():
    recorder = Recorder()
    recorder.patient_kinds, recorder.patience_s = ALL_KINDS, 30.0
    queue = QueuedExporter(recorder)
    fill(queue, 1)
    while not recorder.events or queue._asleep or not queue._wake.empty():
        time.sleep(0.001)
    queue.export(Degraded(*EMITTER.header(), "test", DegradeReason.EVENTS_DROPPED, "now"))
    assert (queue._wake.empty(), len(recorder.events)) == (True, 1)
    assert queue.flush(10.0) == FlushResult(delivered=2)
    queue.close()


def test_a_queue_needs_room_for_one_event():
    with pytest.raises(ConfigError, match="cannot hold 0 events") as caught:
        QueuedExporter(Recorder(), capacity=0)
    assert caught.value.reason is ReasonCode.OPTION_INVALID


def test_an_unused_queue_has_no_thread_and_is_not_kept_alive():
    queue = QueuedExporter(Recorder("unused"))
    assert "smallmind-unused" not in {thread.name for thread in threading.enumerate()}
    gone = weakref.ref(queue)
    del queue
    gc.collect()
    assert gone() is None


def test_infinite_patience_is_allowed():
    queue = QueuedExporter(Recorder())
    fill(queue, 1)
    assert queue.flush(float("inf")).complete
    queue.close()


AT_EXIT = """
import sys, time
sys.path.insert(0, {tests!r})
from smallmind_engine.telemetry import EventBus
from telemetry_doubles import IDS, Recorder, publish_tokens
bus = EventBus()
def slow(event):
    time.sleep({pause})
    print(event.index, flush=True)
bus.subscribe(Recorder("slow", inline=False, on_export=slow))
publish_tokens(bus.emitter(IDS), 20)
"""


def run_at_exit(request, pause):
    tests = str(request.config.rootpath / "tests")
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_EXIT.format(tests=tests, pause=pause)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_at_exit_what_waits_is_passed_on(request):
    done = run_at_exit(request, 0.001)
    assert (list(range(20)), "") == ([int(line) for line in done.stdout.split()], done.stderr)


def test_at_exit_a_hanging_exporter_is_waited_for_two_seconds_at_most(request):
    began = time.perf_counter()
    done = run_at_exit(request, 45)
    assert time.perf_counter() - began < 30
    assert (done.stdout, done.stderr) == ("", "")


class LosesAll(Recorder):
    """Takes every event and loses it."""

    @property
    def lost(self) -> int:
        return len(self.events)


def test_losses_behind_the_queue_are_told_once_and_the_telling_comes_to_an_end():
    bus = EventBus()
    sinks = [LosesAll(name, inline=False) for name in ("one", "two")]
    for sink in sinks:
        bus.subscribe(sink)
    publish_tokens(bus.emitter(), 20)
    for _ in range(10):  # what one flush causes in the other queue is through after the next
        bus.flush(5.0)
    told = [len(sink.of(Degraded)) for sink in sinks]
    assert all(1 <= count <= 40 for count in told), told
    settled = [health.dropped for health in bus.health()]
    for _ in range(3):
        bus.flush(5.0)
    assert [health.dropped for health in bus.health()] == settled
    assert settled == [sink.lost for sink in sinks]
    bus.close()
