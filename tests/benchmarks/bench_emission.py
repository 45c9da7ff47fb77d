"""What the emission sites cost when nobody listens.

    python tests/benchmarks/bench_emission.py [--model smollm2] [--repeat 9]

Runs the same greedy completion with the engine as it is (no exporter), and with the sites taken
out (the observer's methods replaced by empty ones), interleaved, and compares the decode times.
Since the difference drowns in noise, it also times the sites alone: all calls that the observer
gets for one token, against the time that a token takes.
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
from smallmind_engine.telemetry import EventBus

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
    return 0 if share <= LIMIT else 1


if __name__ == "__main__":
    raise SystemExit(main())
