"""What telemetry costs in nanoseconds: run ``python tests/benchmarks/bench_telemetry.py``.

Each figure is the median of several rounds, with the loop's own cost taken off; the spread is from
the fastest round to the slowest.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

if __package__ in {None, ""}:
    sys.path.insert(0, str(Path(__file__).parent.parent))

from smallmind_engine.telemetry import (
    EventBus,
    EventKind,
    InMemoryRuntimeMetrics,
    MetricsExporter,
    QueuedExporter,
    RuntimeLoggerAdapter,
    TokenGenerated,
    new_correlation,
)
from telemetry_doubles import Recorder

ROUNDS = 9
CALLS = 50_000
TOKEN_KIND = EventKind.TOKEN_GENERATED


class Counter(Recorder):
    """The cheapest subscriber there can be."""

    def export(self, event, /):
        pass


def emitter_with(*exporters):
    bus = EventBus()
    for exporter in exporters:
        bus.subscribe(exporter)
    return bus.emitter(new_correlation())


def guarded(emitter):
    """The emission site of the engine: one test, and an event only behind it."""

    def run(calls):
        for index in calls:
            if emitter.wants & TOKEN_KIND:
                emitter.publish(TokenGenerated(*emitter.header(), "model", index, 0.01, 0.0))

    return run


def filtered_log(emitter):
    log = RuntimeLoggerAdapter("bench", emitter)

    def run(calls):
        for index in calls:
            log.debug("a message", value=index)

    return run


def built_only(emitter):
    def run(calls):
        for index in calls:
            TokenGenerated(*emitter.header(), "model", index, 0.01, 0.0)

    return run


def stdlib_filtered(calls):
    log = logging.getLogger("bench")
    for index in calls:
        log.debug("a message %s", index)


def empty(calls):
    for _ in calls:
        pass


def emitters(calls):
    bus, ids = EventBus(), new_correlation()
    for _ in calls:
        bus.emitter(ids)


def timed(run: Callable[[range], None], calls: int) -> tuple[float, float, float]:
    """Median, fastest and slowest nanoseconds per call."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        empty(range(calls))
        middle = time.perf_counter_ns()
        run(range(calls))
        rounds.append((time.perf_counter_ns() - middle - (middle - began)) / calls)
    return statistics.median(rounds), min(rounds), max(rounds)


def main() -> None:
    queue = QueuedExporter(Counter("queue"))
    cases = {
        "guard when off (no subscriber)": guarded(emitter_with()),
        "guard when others' kinds are wanted": guarded(
            emitter_with(Counter("logs", interests=EventKind.LOG))
        ),
        "log call filtered off": filtered_log(emitter_with()),
        "  the same with logging (for scale)": stdlib_filtered,
        "event built, not published": built_only(emitter_with()),
        "build and publish, one empty inline subscriber": guarded(emitter_with(Counter("one"))),
        "build and publish, in-memory metrics": guarded(
            emitter_with(MetricsExporter(InMemoryRuntimeMetrics()))
        ),
        "build and publish, behind a queue": guarded(emitter_with(queue)),
        "emitter for a request": emitters,
    }
    for name, run in cases.items():
        median, fastest, slowest = timed(run, CALLS)
        print(f"{name:<48} {median:8.0f} ns   ({fastest:.0f} to {slowest:.0f})")
    queue.close()


if __name__ == "__main__":
    main()
