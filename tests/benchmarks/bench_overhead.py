"""What telemetry costs, against what was promised: run with a real model.

    python tests/benchmarks/bench_overhead.py [--model smollm2] [--rounds 25] [--json FILE]

One engine runs the same greedy completion in turn with exporters and with none. A turn is ABBA or
BAAB by the dice, and gives one ratio; told is their median with the interval that holds it with
95 % confidence. What exporters work off after the result counts as if it had held the result up.
The steps of the model vary by more than telemetry takes, so what is done beside them is told too:
the time between steps, and the processor time of all threads that have no part in them, as if it
were taken from the steps.
Sending happens between the turns, and counts as often as it falls due: spans every five seconds,
log records every second, metrics every minute. So the figures are those of an engine that never
rests. The receiver of OTLP is a process of its own.

Of the sites that emit, what they take while nobody listens is measured alone too, because it is
smaller than the noise of any completion. Last come the losses of a queue over a million events,
and what of the time of requests their ledgers do not account for.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine_description import machine_description, today
from overhead_cases import LIMITS, REMOVED, cases
from overhead_rounds import Measured, Run, measure
from paired_ratios import TOO_MUCH, Estimate, estimate, verdict

from smallmind import Engine
from smallmind_engine.runtime import Detail
from smallmind_engine.runtime.batch_observer import BatchObserver
from smallmind_engine.runtime.ledger import TimeLedger
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.runtime.telemetry_budget import TelemetryBudget
from smallmind_engine.telemetry import (
    EventBus,
    EventKind,
    InferenceStopped,
    Phase,
    TokenGenerated,
)
from telemetry_doubles import Recorder

PUBLISH_LIMIT_NS = 1_000
EVENTS = 1_000_000
RESIDUAL_MEDIAN, RESIDUAL_P99 = 0.01, 0.02


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


@dataclass
class Report:
    """What is told, line by line and as a whole."""

    rows: list[dict[str, object]] = field(default_factory=list)

    def tell(self, name: str, found: Estimate, limit: float | None, unit: str) -> None:
        """Print a row, with a verdict where there is a limit."""
        judged = "" if limit is None else verdict(found, limit)
        shown = [
            f"{each:+.3%}" if unit == "share" else f"{each:,.4g}"
            for each in (found.value, found.low, found.high)
        ]
        suffix = "" if unit == "share" else f" {unit}"
        span = f"[{shown[1]} to {shown[2]}]" if found.count > 1 else ""
        print(f"{name:<36} {shown[0] + suffix:>12}  {span:<22} {judged}", flush=True)
        self.rows.append(
            {"name": name, **asdict(found), "unit": unit, "limit": limit, "verdict": judged}
        )

    @property
    def failures(self) -> int:
        """Rows that are over their limit for sure."""
        return sum(row["verdict"] == TOO_MUCH for row in self.rows)


def exactly(value: float) -> Estimate:
    """A figure that was found in one way only."""
    return Estimate(value, value, value, 1)


def tell_case(report: Report, name: str, measured: Measured, tokens: int) -> float:
    """What a comparison came to, and where the time went; answers seconds of a token without."""

    def taken(pair: tuple[Run, Run]) -> float:
        return sum(each.wall_s + each.late_s for each in pair)

    def cpu(pair: tuple[Run, Run]) -> float:
        return sum(each.cpu_s for each in pair)

    pairs = list(zip(measured.measured, measured.base, strict=True))
    sending = statistics.median(r.sending for pair in measured.measured for r in pair)
    wall = estimate([taken(more) / taken(less) - 1.0 for more, less in pairs])
    report.tell(name, wall.shifted(sending), LIMITS.get(name), "share")
    beside = [
        (sum(r.beside_s for r in more) - sum(r.beside_s for r in less)) / taken(less)
        for more, less in pairs
    ]
    report.tell(
        "    work beside the steps", estimate(beside).shifted(sending), LIMITS.get(name), "share"
    )
    report.tell(
        "    processor time",
        estimate([cpu(more) / cpu(less) - 1.0 for more, less in pairs]),
        None,
        "share",
    )
    report.tell(
        "    publishing, by the bus's count",
        estimate([sum(r.publishing_s for r in more) / taken(less) for more, less in pairs]),
        None,
        "share",
    )
    base_s = statistics.median(taken(less) / 2 for _, less in pairs) / tokens
    print(f"    {base_s * 1e3:.2f} ms a token without; sending {sending:.2%}")
    more, less = (_by_thread(side, tokens) for side in (measured.measured, measured.base))
    for thread in sorted(more | less):
        print(f"      {thread:<32} {less[thread]:8.1f} -> {more[thread]:8.1f} µs a token")
    return base_s


def _by_thread(pairs: Sequence[tuple[Run, Run]], tokens: int) -> Counter[str]:
    """Median processor time of each thread in microseconds a token; not printable noise is out."""
    runs = [each for pair in pairs for each in pair]
    names = {name for each in runs for name in each.by_thread}
    medians = {
        name: statistics.median(each.by_thread[name] for each in runs) / tokens / 1e3
        for name in names
    }
    return Counter({name: value for name, value in medians.items() if value >= 0.1})


def sites_ns(calls: int = 100_000, rounds: int = 15) -> list[float]:
    """Processor time that the sites of a token take while nobody listens."""
    bus = EventBus()
    observer = RequestObserver(
        bus.emitter(),
        TimeLedger(Phase.DECODE),
        model="model",
        backend="numba",
        operation="text_completion",
        streaming=False,
        capture_content=False,
    )
    batches = BatchObserver(
        bus, "model", "numba", Detail.TOKEN, TelemetryBudget(bus, Detail.TOKEN, None)
    )
    taken = []
    for _ in range(rounds):
        begin = time.thread_time_ns()
        for index in range(calls):
            batches.begin()
            batches.stepped((), 0, 1, 0.01, 0, 1)
            observer.token(index, 1)
        taken.append((time.thread_time_ns() - begin) / calls)
    return taken


def publish_ns(calls: int = 100_000, rounds: int = 15) -> tuple[list[float], list[float]]:
    """Processor time of building a token's event and publishing it, and of publishing alone."""
    bus = EventBus()
    bus.subscribe(Sink("sink"))
    emitter = bus.emitter()
    event = TokenGenerated(*emitter.header(), "model", 1, 0.01, 0.0)

    def both() -> None:
        for index in range(calls):
            emitter.publish(TokenGenerated(*emitter.header(), "model", index, 0.01, 0.0))

    def alone() -> None:
        for _ in range(calls):
            emitter.publish(event)

    def cost(run: Callable[[], None]) -> float:
        begin = time.thread_time_ns()
        run()
        return (time.thread_time_ns() - begin) / calls

    taken = [(cost(both), cost(alone)) for _ in range(rounds)]
    return [each for each, _ in taken], [each for _, each in taken]


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
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--only", default="", help="comparisons whose name holds this")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    report = Report()
    load_before = os.getloadavg()[0]
    print(f"{today()}; load of the machine: {load_before:.1f} on {os.cpu_count()} cores")
    both, alone = publish_ns()
    report.tell("publish, one inline subscriber", estimate(alone), PUBLISH_LIMIT_NS, "ns")
    report.tell("  with the event built", estimate(both), None, "ns")
    sites = estimate(sites_ns())
    report.tell("sites of a token, nobody listening", sites, None, "ns")
    if given.events:
        lost = lost_events(given.events)
        report.tell(f"lost of {given.events:,} events", exactly(lost), 0, "events")
    with ExitStack() as stack:
        chosen = [case for case in cases(given.model, stack) if given.only in case.name]
        found = measure(chosen, given.rounds, given.tokens)
        for name, measured in found.items():
            token_s = tell_case(report, name, measured, given.tokens)
            if name == REMOVED:
                share = sites.times(1e-9 / token_s)
                report.tell("sites alone, of a token's time", share, LIMITS[REMOVED], "share")
        wanted = given.requests if chosen else 0
        shares = residuals(chosen[0].base.engine, wanted) if wanted else []
    if shares:
        median, p99 = statistics.median(shares), shares[int(len(shares) * 0.99)]
        report.tell("ledger residual, median", exactly(median), RESIDUAL_MEDIAN, "share")
        report.tell("ledger residual, p99", exactly(p99), RESIDUAL_P99, "share")
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    if given.json:
        document = {
            "when": today(),
            "machine": machine_description(),
            "load": [load_before, os.getloadavg()[0]],
            "given": {name: str(value) for name, value in vars(given).items()},
            "rows": report.rows,
        }
        given.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return report.failures


if __name__ == "__main__":
    raise SystemExit(main())
