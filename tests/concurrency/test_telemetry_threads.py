"""The bus, the queue and the metrics under many threads."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from smallmind_engine.telemetry import (
    ConsoleRuntimeLogger,
    EventBus,
    InMemoryRuntimeMetrics,
    LoggerExporter,
    LogLevel,
    MetricsExporter,
    QueuedExporter,
    RequestStatus,
    StopReason,
    TokenGenerated,
    new_correlation,
)
from telemetry_doubles import Recorder, publish_tokens, raising, token

THREADS = 16
PER_THREAD = 500


@pytest.fixture(autouse=True)
def _many_switches():
    """Threads take turns as often as possible, so that races show."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work, threads=THREADS):
    start = threading.Barrier(threads)

    def run(number):
        start.wait(30.0)
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_sequences_have_no_gap_and_no_double_under_threads_and_order_holds_per_request():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    in_threads(lambda _: publish_tokens(bus.emitter(new_correlation()), PER_THREAD))
    sequences = sorted(event.sequence for event in recorder.events)
    assert list(range(sequences[0], sequences[0] + THREADS * PER_THREAD)) == sequences
    by_request = {}
    for event in recorder.events:
        by_request.setdefault(event.correlation.request_id, []).append(event)
    assert len(by_request) == THREADS
    for events in by_request.values():
        assert [event.index for event in events] == list(range(PER_THREAD))
        assert sorted(events, key=lambda event: event.sequence) == events


def test_subscribing_and_leaving_while_others_publish_loses_nothing_for_those_who_stay():
    bus, steady = EventBus(), Recorder("steady")
    bus.subscribe(steady)

    def work(number):
        if number % 2:
            for _ in range(5):
                publish_tokens(bus.emitter(new_correlation()), PER_THREAD // 5)
            return
        for turn in range(60):
            guest = Recorder(f"guest-{number}-{turn}")
            with bus.subscribe(guest):
                publish_tokens(bus.emitter(new_correlation()), 1)
            seen = {}
            for event in guest.of(TokenGenerated):
                seen.setdefault(event.correlation, []).append(event.index)
            for indexes in seen.values():
                assert indexes == list(range(len(indexes))), "a request was seen from its middle"

    in_threads(work)
    assert len(steady.events) == THREADS // 2 * (PER_THREAD + 60)
    assert bus.wants == steady.interests
    assert len(bus.health()) == 1


def test_an_exporter_that_always_raises_is_detached_once_under_threads():
    bus, steady = EventBus(), Recorder("steady", interests=TokenGenerated.kind)
    bus.subscribe(Recorder("bad", on_export=raising(ValueError())))
    bus.subscribe(steady)
    in_threads(lambda _: publish_tokens(bus.emitter(new_correlation()), 50))
    assert len(steady.events) == THREADS * 50
    assert [(h.name, h.attached) for h in bus.health()] == [("steady", True), ("bad", False)]


def test_a_queue_accounts_for_every_event_under_threads():
    recorder = Recorder()
    queue = QueuedExporter(recorder, capacity=64)
    emitter = EventBus().emitter(new_correlation())

    def work(number):
        for index in range(PER_THREAD):
            queue.export(token(emitter, index))
            if index % 100 == number:
                queue.flush(0.001)

    in_threads(work)
    answer = queue.flush(30.0)
    assert not answer.timed_out
    assert answer.delivered == len(recorder.events)
    assert answer.delivered + answer.dropped == THREADS * PER_THREAD
    queue.close()


def test_metrics_are_exact_under_threads():
    metrics = InMemoryRuntimeMetrics()

    def work(number):
        for index in range(PER_THREAD):
            metrics.inference_started()
            metrics.first_token(0.1)
            metrics.token_generated(0.3)
            metrics.prompt_tokens(2)
            metrics.completion_tokens(3)
            metrics.tokens_per_second(0.1 * (number + 1))
            metrics.memory_high_water(number * PER_THREAD + index)
            (metrics.kv_cache_hit if index % 4 else metrics.kv_cache_miss)()
            metrics.inference_stopped(RequestStatus.COMPLETED, StopReason.MAX_TOKENS, 0.7)

    in_threads(work)
    seen = metrics.snapshot()
    total = THREADS * PER_THREAD
    assert total == seen.inferences_started == seen.inferences[RequestStatus.COMPLETED]
    assert total == seen.stop_reasons[StopReason.MAX_TOKENS] == seen.tokens_generated
    assert (2 * total, 3 * total) == (seen.prompt_tokens, seen.completion_tokens)
    assert (
        seen.time_to_first_token.mean_s,
        seen.inter_token_interval.mean_s,
        seen.request_duration.mean_s,
    ) == (0.1, 0.3, 0.7)
    assert seen.average_tokens_per_second == pytest.approx(0.1 * (THREADS + 1) / 2, rel=1e-12)
    assert (seen.kv_cache_hit_rate, seen.memory_high_water_bytes) == (0.75, total - 1)


def test_a_snapshot_is_never_torn_and_resets_lose_nothing():
    metrics = InMemoryRuntimeMetrics()
    parts = []

    def work(number):
        if number:
            for _ in range(PER_THREAD):
                metrics.inference_stopped(RequestStatus.COMPLETED, StopReason.COMPLETED, 0.5)
            return
        parts.extend(metrics.reset() for _ in range(100))

    in_threads(work)
    parts.append(metrics.reset())
    for part in parts:
        ended = part.inferences[RequestStatus.COMPLETED]
        assert ended == part.stop_reasons[StopReason.COMPLETED] == part.request_duration.count
    assert sum(part.request_duration.count for part in parts) == (THREADS - 1) * PER_THREAD


def test_metrics_fed_from_the_bus_are_exact_under_threads():
    bus, metrics = EventBus(), InMemoryRuntimeMetrics()
    bus.subscribe(MetricsExporter(metrics))
    in_threads(lambda _: publish_tokens(bus.emitter(new_correlation()), PER_THREAD))
    assert metrics.snapshot().tokens_generated == THREADS * PER_THREAD
    assert metrics.snapshot().inter_token_interval.count == THREADS * (PER_THREAD - 1)


GARBAGE = """
import gc, sys, threading
sys.path.insert(0, {tests!r})
from smallmind_engine.telemetry import *
from telemetry_doubles import IDS, Recorder, publish_tokens
bus, metrics, steady = EventBus(), InMemoryRuntimeMetrics(), Recorder("steady")
bus.subscribe(MetricsExporter(metrics))
bus.subscribe(steady)
bus.subscribe(Recorder("slow", inline=False))
emitter = bus.emitter(IDS)
class Abandoned:
    def __init__(self):
        self.itself = self
    def __del__(self):
        publish_tokens(emitter, 1)
gc.set_threshold(3)
def work():
    for _ in range(3000):
        Abandoned()
        publish_tokens(emitter, 1)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sent = 4 * 3000 * 2
pause = threading.Event()
for _ in range(10_000):
    gc.collect()  # which does nothing while another thread is collecting
    if metrics.snapshot().tokens_generated == sent:
        break
    pause.wait(0.001)
answer = bus.flush(30.0)["slow"]
assert metrics.snapshot().tokens_generated == len(steady.of(TokenGenerated)) == sent
assert not answer.timed_out and answer.delivered + answer.dropped >= sent, answer
bus.close()
"""


def test_the_garbage_collector_may_publish_at_any_moment(request):
    program = GARBAGE.format(tests=str(request.config.rootpath / "tests"))
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_publishing_does_not_hang_while_the_same_thread_holds_a_lock_of_ours():
    """As when the garbage collector ends a stream in the middle of an update."""
    bus, metrics, stream = EventBus(), InMemoryRuntimeMetrics(), io.StringIO()
    console = ConsoleRuntimeLogger(LogLevel.TRACE, stream)
    queue = QueuedExporter(Recorder("queued"))
    bad = bus.subscribe(Recorder("bad", on_export=raising(ValueError())))
    bus.subscribe(MetricsExporter(metrics))
    bus.subscribe(LoggerExporter(console, inline=True))
    bus.subscribe(queue)
    locks = [bus._lock, bad._lock, metrics._lock, console._lock, queue._lock]

    def work():
        with contextlib.ExitStack() as held:
            for lock in locks:
                held.enter_context(lock)
            publish_tokens(bus.emitter(new_correlation()), 10)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20.0)
    assert not thread.is_alive()
    assert metrics.snapshot().tokens_generated == 10
    assert "an exporter failed" in stream.getvalue()
    queue.close()
