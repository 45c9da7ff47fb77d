"""Times completions in turn, so that what else the machine does hits both sides alike."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from overhead_cases import Case, Side
from paired_ratios import SEED
from step_clock import StepClock
from thread_times import spent, thread_times

from smallmind import Engine

PROMPT = "Once upon a time"
SENDING_EVERY_S = {
    "smallmind-otlp-traces": 5.0,
    "smallmind-otlp-logs": 1.0,
    "smallmind-otlp-metrics": 60.0,
}
"""How often the threads that send do so, unless the environment tells them otherwise."""
MAIN = "MainThread"
COMPUTING = (MAIN, "smallmind-scheduler", "smallmind-kernels-")


@dataclass(frozen=True)
class Run:
    """One completion.

    Attributes:
        wall_s: from the call to the result.
        cpu_s: processor time of all threads, until what it left in queues was worked off.
        late_s: what of it the threads behind queues took after the result.
        sending: the share of a core that sending takes, each thread as often as it does;
            no part of ``cpu_s``.
        by_thread: ``cpu_s`` in nanoseconds, by name of the thread.
        publishing_s: what exporters took of the threads that publish, as the bus counts it.
        between_s: what passed between the steps of the model.
    """

    wall_s: float
    cpu_s: float
    late_s: float
    sending: float
    by_thread: Counter[str]
    publishing_s: float
    between_s: float

    @property
    def beside_s(self) -> float:
        """What was done beside the steps: between them, and by threads without part in them."""
        others = sum(ns for name, ns in self.by_thread.items() if not name.startswith(COMPUTING))
        return self.between_s + others / 1e9


@dataclass
class Measured:
    """All runs of one comparison, by side, in pairs that were made at the same time."""

    base: list[tuple[Run, Run]] = field(default_factory=list)
    measured: list[tuple[Run, Run]] = field(default_factory=list)


def run(side: Side, tokens: int) -> Run:
    """Complete the prompt, then have everything that it left behind worked off."""
    with side.around():
        return _completion(side.engine, side.clock, tokens)


def _completion(engine: Engine, clock: StepClock, tokens: int) -> Run:
    clock.restart()
    published_ns = engine.bus.overhead_ns
    before, begin = thread_times(), time.perf_counter()
    engine.generate(PROMPT, max_tokens=tokens, temperature=0.0, ignore_eos=True)
    wall_s, at_end = time.perf_counter() - begin, thread_times()
    engine.bus.flush(30.0)
    late = spent(at_end, thread_times())
    sending = sum(late[name] / 1e9 / every_s for name, every_s in SENDING_EVERY_S.items())
    queued = {
        name: ns
        for name, ns in late.items()
        if not name.startswith(COMPUTING) and name not in SENDING_EVERY_S
    }
    by_thread = spent(before, at_end) + Counter(queued)
    return Run(
        wall_s=wall_s,
        cpu_s=sum(by_thread.values()) / 1e9,
        late_s=sum(queued.values()) / 1e9,
        sending=sending,
        by_thread=by_thread,
        publishing_s=(engine.bus.overhead_ns - published_ns) / 1e9,
        between_s=clock.between_ns / 1e9,
    )


def measure(cases: Sequence[Case], rounds: int, tokens: int) -> dict[str, Measured]:
    """Let each comparison have its turn in each round, in an order that the dice decide.

    A turn is base, measured, measured, base, or the other way round: whatever grows or shrinks
    evenly meanwhile falls out of the ratio.
    """
    dice = random.Random(SEED)  # noqa: S311 - repeatable
    found = {case.name: Measured() for case in cases}
    for case in cases:
        _turn(case, tokens, first=True)
    for _ in range(rounds):
        for case in dice.sample(cases, len(cases)):
            base, measured = _turn(case, tokens, first=dice.random() < 0.5)
            found[case.name].base.append(base)
            found[case.name].measured.append(measured)
    return found


def _turn(case: Case, tokens: int, *, first: bool) -> tuple[tuple[Run, Run], tuple[Run, Run]]:
    def base() -> Run:
        return run(case.base, tokens)

    def measured() -> Run:
        return run(case.measured, tokens)

    outer, inner = (base, measured) if first else (measured, base)
    begin, middle, end = outer(), (inner(), inner()), outer()
    return ((begin, end), middle) if first else (middle, (begin, end))
