"""What telemetry costs, as issue by issue it was promised: run with a real model.

    python tests/benchmarks/bench_overhead.py [--model smollm2] [--repeat 9] [--quick]

Engines with different exporters run the same greedy completion in turn; the medians of the ratios
to the engine without any are told. The cost of publishing is measured in processor time of this
thread, which other processes disturb least. Last come the losses of a queue over a million events,
and what of the time of requests their ledgers do not account for.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import structlog
from prometheus_client import CollectorRegistry

from otlp_receiver import http_receiver
from smallmind import Engine, load
from smallmind_engine.runtime.batch_observer import BatchObserver
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.telemetry import (
    EventBus,
    EventKind,
    InferenceStopped,
    InMemoryRuntimeMetrics,
    MetricsExporter,
    Phase,
    TokenGenerated,
)
from smallmind_exporters.otlp import OtlpExporter
from smallmind_exporters.prometheus import PrometheusExporter
from smallmind_exporters.structured import StructlogExporter
from telemetry_doubles import Recorder

TOKENS = 64
SITES = {
    RequestObserver: ("queued", "admitted", "started", "prefill_ended", "token", "stopped"),
    BatchObserver: ("begin", "rest", "stepped"),
}
LIMITS = {
    "no exporter ÷ sites removed": 0.003,
    "in-memory + Prometheus": 0.01,
    "+ OTLP (request) + structlog": 0.02,
    "everything, token detail": 0.05,
}
PUBLISH_LIMIT_NS = 1_000
EVENTS = 1_000_000
RESIDUAL_MEDIAN, RESIDUAL_P99 = 0.01, 0.02


@dataclass(frozen=True)
class Case:
    """An engine under a name; ``around`` is entered for each of its completions."""

    name: str
    engine: Engine
    around: Callable[[], object]


class Sink(Recorder):
    """The cheapest subscriber there can be."""

    def export(self, event: object, /) -> None:
        pass


class Ledgers(Recorder):
    """Keeps the share of each request's time that its ledger has no account for."""

    def __init__(self) -> None:
        super().__init__("ledgers", interests=EventKind.INFERENCE_STOPPED)
        self.shares: list[float] = []

    def export(self, event: object, /) -> None:
        if isinstance(event, InferenceStopped):
            self.shares.append(dict(event.ledger)[Phase.UNATTRIBUTED] / event.duration_s)


@contextmanager
def without_sites() -> Iterator[None]:
    """The observers' methods replaced by empty ones."""
    kept = {(cls, name): getattr(cls, name) for cls, names in SITES.items() for name in names}
    for cls, name in kept:
        setattr(cls, name, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        for (cls, name), method in kept.items():
            setattr(cls, name, method)


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


def timed(case: Case) -> float:
    with case.around():
        begin = time.perf_counter()
        case.engine.generate(
            "Once upon a time", max_tokens=TOKENS, temperature=0.0, ignore_eos=True
        )
        return time.perf_counter() - begin


def cases(model: str, stack: ExitStack) -> list[Case]:
    """The engines; the first one is what the others are compared with."""
    receiver = stack.enter_context(http_receiver())
    lines = structlog.wrap_logger(
        structlog.PrintLogger(stack.enter_context(open(os.devnull, "w"))),  # noqa: PTH123, SIM115
        processors=[structlog.processors.JSONRenderer()],
    )

    def engine(*exporters: object, **options: object) -> Engine:
        return stack.enter_context(load(model, exporters=exporters, **options))

    def numbers() -> tuple[object, object]:
        prometheus = stack.enter_context(PrometheusExporter(registry=CollectorRegistry()))
        return MetricsExporter(InMemoryRuntimeMetrics()), prometheus

    def otlp(detail: str) -> OtlpExporter:
        return stack.enter_context(OtlpExporter(endpoint=receiver.endpoint, detail=detail))

    plain = engine()
    detailed = (*numbers(), otlp("token"), StructlogExporter(lines), Ledgers())
    return [
        Case("no exporter", plain, as_it_is),
        Case("no exporter ÷ sites removed", plain, without_sites),
        Case("in-memory + Prometheus", engine(*numbers()), as_it_is),
        Case(
            "+ OTLP (request) + structlog",
            engine(*numbers(), otlp("request"), StructlogExporter(lines), detail="token"),
            as_it_is,
        ),
        Case("everything, token detail", engine(*detailed), as_it_is),
        Case(
            "  the same with quality_signals",
            engine(*detailed[:-1], Ledgers(), quality_signals=True),
            as_it_is,
        ),
    ]


def compare(all_cases: list[Case], repeat: int) -> dict[str, float]:
    """Extra time as a share, medians over rounds in which each case has its turn."""
    for case in all_cases:
        timed(case)
    rounds = []
    for number in range(repeat):
        order = all_cases if number % 2 else all_cases[::-1]
        rounds.append({case.name: timed(case) for case in order})
    plain = all_cases[0].name
    for name in rounds[0]:
        spread = sorted(each[name] for each in rounds)
        print(
            f"{name:<34} {statistics.median(spread) / TOKENS * 1e3:7.2f} ms a token"
            f"  ({spread[0] / TOKENS * 1e3:.2f} to {spread[-1] / TOKENS * 1e3:.2f})"
        )
    extra = {
        name: statistics.median(each[name] / each[plain] for each in rounds) - 1.0
        for name in rounds[0]
    }
    # Without sites is the smaller one: what the sites cost is the other way round.
    removed = "no exporter ÷ sites removed"
    extra[removed] = statistics.median(each[plain] / each[removed] for each in rounds) - 1.0
    return extra


def publish_ns(calls: int = 100_000, rounds: int = 7) -> tuple[float, float]:
    """Processor time of building a token's event and publishing it, and of publishing alone."""
    bus = EventBus()
    bus.subscribe(Sink("sink"))
    emitter = bus.emitter()

    def both() -> None:
        for index in range(calls):
            emitter.publish(TokenGenerated(*emitter.header(), "model", index, 0.01, 0.0))

    def alone() -> None:
        event = TokenGenerated(*emitter.header(), "model", 1, 0.01, 0.0)
        for _ in range(calls):
            emitter.publish(event)

    def cost(run: Callable[[], None]) -> float:
        taken = []
        for _ in range(rounds):
            begin = time.thread_time_ns()
            run()
            taken.append((time.thread_time_ns() - begin) / calls)
        return statistics.median(taken)

    return cost(both), cost(alone)


def lost_events(count: int) -> int:
    """Events that are not delivered at ``flush()``, of ``count`` in bursts through a queue."""
    bus = EventBus()
    sink = Sink("sink", inline=False)
    bus.subscribe(sink)
    emitter = bus.emitter()
    for index in range(count):
        emitter.publish(TokenGenerated(*emitter.header(), "model", index, 0.01, 0.0))
        if not (index + 1) % 4096:
            bus.flush(30.0)
    result = bus.flush(30.0)["sink"]
    bus.close()
    return count - result.delivered + result.pending


def residuals(engine: Engine, requests: int) -> list[float]:
    """Shares of the time of short and long requests that no account has."""
    ledgers = Ledgers()
    with engine.bus.subscribe(ledgers):
        for number in range(requests):
            engine.generate("Once upon a time", max_tokens=1 + number % 16, ignore_eos=True)
    return sorted(ledgers.shares)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args()
    failed = []

    def judge(name: str, value: float, limit: float, text: str) -> None:
        verdict = "ok" if value <= limit else "TOO MUCH"
        failed.extend([name] if value > limit else [])
        print(f"{name:<34} {text:>12}  {verdict}", flush=True)

    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    both, alone = publish_ns()
    judge("publish, one inline subscriber", alone, PUBLISH_LIMIT_NS, f"{alone:.0f} ns")
    print(f"  with the event built             {both:8.0f} ns")
    lost = lost_events(given.events)
    judge(f"lost of {given.events:,} events", lost, 0, f"{lost}")
    with ExitStack() as stack:
        all_cases = cases(given.model, stack)
        extra = compare(all_cases, given.repeat)
        for name, limit in LIMITS.items():
            judge(name, extra[name], limit, f"{extra[name]:+.2%}")
        measured = all_cases[-1].name
        print(f"{measured:<34} {extra[measured]:>+12.2%}")
        shares = residuals(all_cases[0].engine, given.requests)
    median, p99 = statistics.median(shares), shares[int(len(shares) * 0.99)]
    judge("ledger residual, median", median, RESIDUAL_MEDIAN, f"{median:.4%}")
    judge("ledger residual, p99", p99, RESIDUAL_P99, f"{p99:.4%}")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    return len(failed)


if __name__ == "__main__":
    raise SystemExit(main())
