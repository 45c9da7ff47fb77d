"""Frequent events wait for each other before an exporter that only adds numbers up."""

from __future__ import annotations

import os

import pytest

from smallmind_engine.telemetry import (
    EventBus,
    InMemoryRuntimeMetrics,
    KVCacheUsage,
    MetricsExporter,
    QueuedExporter,
    TokenGenerated,
)
from smallmind_engine.telemetry.subscription import BURST_NS, METERED_EVERY, MOST_GATHERED
from smallmind_exporters.prometheus import PrometheusExporter
from telemetry_doubles import IDS

NOW = 10 * BURST_NS


def token(index: int, time_ns: int = NOW) -> TokenGenerated:
    return TokenGenerated(index + 1, time_ns, IDS, "tiny", index, 0.01, 0.0)


class InMemory:
    """Reads the tokens that in-memory metrics counted."""

    def __init__(self) -> None:
        self.metrics = InMemoryRuntimeMetrics()
        self.exporter = MetricsExporter(self.metrics)

    def count(self) -> int:
        return self.metrics.snapshot().tokens_generated


class Scraped:
    """Reads the tokens that a scrape shows."""

    def __init__(self) -> None:
        self.exporter = PrometheusExporter()

    def count(self) -> int:
        for line in self.exporter.render().decode().splitlines():
            if line.startswith("smallmind_generated_tokens_total{"):
                return int(float(line.split()[-1]))
        return 0


@pytest.fixture(params=[InMemory, Scraped])
def reader(request: pytest.FixtureRequest):
    reader = request.param()
    yield reader
    reader.exporter.close()


@pytest.fixture
def emitter(reader):
    bus = EventBus()
    with bus.subscribe(reader.exporter):
        yield bus.emitter(IDS)


def publish_tokens(emitter, count: int, *, start: int = 0) -> None:
    for index in range(start, start + count):
        emitter.publish(token(index))


def test_tokens_of_a_burst_wait_and_whoever_reads_sees_them(reader, emitter):
    publish_tokens(emitter, 10)
    assert len(reader.exporter.backlog) == 9  # the first one found no burst under way
    assert reader.count() == 10
    assert not reader.exporter.backlog
    assert reader.count() == 10


def test_another_kind_of_event_takes_those_that_wait_along(reader, emitter):
    publish_tokens(emitter, 10)
    emitter.publish(KVCacheUsage(99, NOW, IDS, "tiny", 10, 100, 640))
    assert not reader.exporter.backlog
    assert reader.count() == 10


def test_a_token_that_comes_after_the_burst_takes_those_that_wait_along(reader, emitter):
    publish_tokens(emitter, 10)
    emitter.publish(token(10, NOW + BURST_NS + 1))
    assert not reader.exporter.backlog
    assert reader.count() == 11


def test_tokens_that_come_slowly_never_wait(reader, emitter):
    for index in range(5):
        emitter.publish(token(index, NOW * (index + 1)))
        assert not reader.exporter.backlog
    assert reader.count() == 5


def test_no_more_than_a_certain_number_wait(reader, emitter):
    publish_tokens(emitter, 2 * MOST_GATHERED)
    assert len(reader.exporter.backlog) < MOST_GATHERED
    assert reader.count() == 2 * MOST_GATHERED


def test_a_flush_takes_along_what_waits(reader, emitter):
    publish_tokens(emitter, 10)
    reader.exporter.flush(1.0)
    assert not reader.exporter.backlog


def test_what_waits_when_an_exporter_is_closed_is_counted_and_what_comes_later_is_not(
    reader, emitter
):
    publish_tokens(emitter, 10)
    reader.exporter.close()
    publish_tokens(emitter, 3 * MOST_GATHERED, start=10)
    assert reader.count() == 10


def test_a_reset_takes_along_what_waits():
    reader, bus = InMemory(), EventBus()
    with bus.subscribe(reader.exporter):
        publish_tokens(bus.emitter(IDS), 10)
        assert reader.metrics.reset().tokens_generated == 10
        assert reader.count() == 0


def test_waiting_events_are_measured_like_all_others():
    clock = iter(range(0, 10**9, 100))
    reader, bus = InMemory(), EventBus(clock=clock.__next__)
    with bus.subscribe(reader.exporter):
        publish_tokens(bus.emitter(IDS), 1 + 2 * METERED_EVERY)
        assert bus.overhead_ns == 100 + 2 * METERED_EVERY * 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_does_not_count_what_waited_in_its_parent(reader, emitter):
    publish_tokens(emitter, 10)
    child = os.fork()
    if not child:
        publish_tokens(emitter, 3)
        os._exit(reader.count())
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    assert reader.count() == 10


def test_a_metrics_exporter_behind_a_queue_of_its_callers_is_not_passed_by():
    metrics = InMemoryRuntimeMetrics()
    queue = QueuedExporter(MetricsExporter(metrics))
    bus = EventBus()
    with bus.subscribe(queue):
        publish_tokens(bus.emitter(IDS), 5)
        assert queue.flush(10.0).delivered == 5
    queue.close()
    assert metrics.snapshot().tokens_generated == 5


def test_whoever_overrides_the_count_of_tokens_is_told_of_each():
    class Own(InMemoryRuntimeMetrics):
        told = 0

        def token_generated(self, interval_s: float | None) -> None:
            self.told += 1
            super().token_generated(interval_s)

    own, bus = Own(), EventBus()
    with bus.subscribe(MetricsExporter(own)):
        publish_tokens(bus.emitter(IDS), 5)
        assert own.snapshot().tokens_generated == 5
    assert own.told == 5
