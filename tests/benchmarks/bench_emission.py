"""What the emission sites cost when nobody listens.

    python tests/benchmarks/bench_emission.py [--model smollm2] [--repeat 9]

Runs the same greedy completion with the engine as it is (no exporter), and with the sites taken
out (the observer's methods replaced by empty ones), interleaved, and compares the decode times.
Since the difference drowns in noise, it also times the sites alone: all calls that the observer
gets for one token, against the time that a token takes. Last, it compares decode steps of engines
with ``detail="token"`` and ``detail="kernel"``, both with an exporter that drops what it gets, and
tells how much of a step's time its operations account for.
"""

from __future__ import annotations

import argparse
import statistics
import time
import timeit

from smallmind import Engine, Phase, load
from smallmind_engine.runtime import observer
from smallmind_engine.runtime.ledger import TimeLedger
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.telemetry import ALL_KINDS, Event, EventBus, FlushResult, KernelExecuted

TOKENS = 48
SITES = ("queued", "admitted", "started", "prefill_ended", "token", "stopped")
LIMIT = 0.005


def completion(engine: Engine) -> float:
    begin = time.perf_counter()
    engine.generate("Once upon a time", max_tokens=TOKENS, temperature=0.0, ignore_eos=True)
    return time.perf_counter() - begin


def without_sites(engine: Engine) -> float:
    kept = {name: getattr(RequestObserver, name) for name in SITES}
    for name in SITES:
        setattr(RequestObserver, name, lambda self, *args, **kwargs: None)
    try:
        return completion(engine)
    finally:
        for name, method in kept.items():
            setattr(RequestObserver, name, method)


def site_ns() -> float:
    silent = RequestObserver(
        EventBus().emitter(), TimeLedger(Phase.DECODE), model="m", backend="numpy",
        operation="text_completion", streaming=False, capture_content=False,
    )  # fmt: skip
    return min(timeit.repeat(lambda: silent.token(1, 2), number=100_000, repeat=7)) / 1e5 * 1e9


class Ignoring:
    """Takes every event, and adds up the time of operations."""

    name = "ignoring"
    interests = ALL_KINDS
    inline = True

    def __init__(self) -> None:
        self.operations_s = 0.0

    def export(self, event: Event, /) -> None:
        if isinstance(event, KernelExecuted):
            self.operations_s += event.duration_s

    def flush(self, timeout_s: float) -> FlushResult:
        return FlushResult()

    def close(self) -> None:
        pass


def detail_ms(model: str, repeat: int) -> tuple[float, float, float]:
    """Milliseconds of a token with token detail and with kernel detail, and those of operations."""
    ignoring = Ignoring()
    with (
        load(model, exporters=[Ignoring()], detail="token") as plain,
        load(model, exporters=[ignoring], detail="kernel") as detailed,
    ):
        completion(plain), completion(detailed)
        ignoring.operations_s = 0.0
        pairs = [(completion(plain), completion(detailed)) for _ in range(repeat)]
    scale = 1e3 / TOKENS
    without, with_it = (statistics.median(each) * scale for each in zip(*pairs, strict=True))
    return without, with_it, ignoring.operations_s / repeat * scale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--repeat", type=int, default=9)
    arguments = parser.parse_args()
    with load(arguments.model, exporters=()) as engine:
        completion(engine)
        pairs = [(completion(engine), without_sites(engine)) for _ in range(arguments.repeat)]
    ratio = statistics.median(a / b for a, b in pairs)
    token_ns = statistics.median(a for a, _ in pairs) / TOKENS * 1e9
    share = site_ns() / token_ns
    print(f"with sites ÷ without, median of {arguments.repeat} pairs: {ratio:.4f}")
    print(f"site of a token: {site_ns():.0f} ns of {token_ns / 1e6:.2f} ms: {share:.5%}")
    print(f"limit: {LIMIT:.1%}  {'ok' if share <= LIMIT else 'TOO MUCH'}  ({observer.__name__})")
    plain, detailed, operations = detail_ms(arguments.model, arguments.repeat)
    print(
        f"a token with detail=token: {plain:.2f} ms; with detail=kernel: {detailed:.2f} ms,"
        f" of which operations {operations:.2f} ms ({operations / detailed:.0%})"
    )
    return 0 if share <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
