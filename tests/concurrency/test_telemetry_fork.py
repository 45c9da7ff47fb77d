"""A forked child has a working bus of its own, whatever the parent's threads were doing."""

from __future__ import annotations

import io
import os
import signal
import threading
import warnings

import pytest

from smallmind_engine.telemetry import (
    ConsoleRuntimeLogger,
    EventBus,
    InMemoryRuntimeMetrics,
    LogLevel,
    MetricsExporter,
    QueuedExporter,
    RuntimeLogEvent,
)
from telemetry_doubles import IDS, Recorder, publish_tokens

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

TIME_LIMIT_S = 20


def in_child(work):
    """The truth of ``work()`` in a forked child; a child that hangs is ended by an alarm."""
    with warnings.catch_warnings():
        # Python 3.12 warns of forking with threads, which is what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(TIME_LIMIT_S)
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_child_exports_its_own_events_and_not_the_parents():
    bus, slow = EventBus(), Recorder("slow", inline=False)
    gate, entered = threading.Event(), threading.Event()
    slow.on_export = lambda _: (entered.set(), gate.wait(30.0))
    bus.subscribe(slow)
    emitter = bus.emitter(IDS)
    publish_tokens(emitter, 10)
    assert entered.wait(10.0)

    def work():
        slow.on_export = None
        publish_tokens(emitter, 3)
        answer = bus.flush(10.0)["slow"]
        return answer.complete and answer.delivered == 3 == len(slow.events)

    assert in_child(work)
    gate.set()
    assert bus.flush(10.0)["slow"].delivered == 10
    assert len(slow.events) == 10
    bus.close()


def test_locks_held_by_other_threads_at_the_fork_do_not_hang_the_child():
    bus, metrics, stream = EventBus(), InMemoryRuntimeMetrics(), io.StringIO()
    console = ConsoleRuntimeLogger(stream=stream)
    queued = QueuedExporter(Recorder("queued"))
    subscription = bus.subscribe(MetricsExporter(metrics))
    bus.subscribe(queued)
    locks = [bus._lock, subscription._lock, metrics._lock, console._lock, queued._lock]
    held, release = threading.Event(), threading.Event()

    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        release.wait(30.0)
        for lock in reversed(locks):
            lock.release()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10.0)

    def work():
        bus.subscribe(Recorder())
        publish_tokens(bus.emitter(IDS), 5)
        console.log_event(RuntimeLogEvent(1, 2, IDS, LogLevel.INFO, "c", "m"))
        flushed = bus.flush(10.0)["queued"].delivered == 5
        healthy = all(health.errors == 0 for health in bus.health())
        return flushed and healthy and metrics.snapshot().tokens_generated == 5

    assert in_child(work)
    release.set()
    holder.join()
    queued.close()


def test_the_child_counts_metrics_from_zero():
    metrics = InMemoryRuntimeMetrics()
    metrics.prompt_tokens(5)
    assert in_child(lambda: metrics.snapshot().prompt_tokens == 0)
    assert metrics.snapshot().prompt_tokens == 5


def test_a_fork_inside_an_exporter_gives_the_child_a_thread_of_its_own():
    queue = QueuedExporter(forking := Recorder("forking"))
    answers = []

    def fork(_):
        def work():
            return queue._next_work() is None

        answers.append(in_child(work))

    forking.on_export = fork
    bus = EventBus()
    bus.subscribe(queue)
    publish_tokens(bus.emitter(IDS), 1)
    assert queue.flush(30.0).complete
    assert answers == [True]
    queue.close()


def test_sequences_go_on_without_a_gap_in_the_child():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    publish_tokens(bus.emitter(IDS), 1)

    def work():
        publish_tokens(bus.emitter(IDS), 1)
        return recorder.events[1].sequence == recorder.events[0].sequence + 1

    assert in_child(work)
