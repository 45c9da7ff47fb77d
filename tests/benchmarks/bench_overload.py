"""Fifty times more callers than places for half a minute, on a real model.

    python tests/benchmarks/bench_overload.py [--model smollm2] [--seconds 30] [--json FILE]

A caller that is turned away asks again after the time that a batch takes, so that some fifty times
more requests come than can be served. ``--pause 0.002`` lets them ask at once, thousands of times
more: then the callers themselves keep the interpreter from the engine.

Every request must end with a result or with ``BACKPRESSURE_QUEUE_FULL``; the latency of those that
are admitted is bounded by the queue's length, and memory is flat. Exit code 1 when not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from overload import Overload, overload
from smallmind import load

PLACES: Final = 4
QUEUE: Final = 8
CALLERS: Final = 50 * PLACES
FLAT: Final = 0.05
OPTIONS: Final = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 16}


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and most."""
    ordered = sorted(seconds)
    return {
        "count": len(ordered),
        "p50_s": ordered[len(ordered) // 2],
        "p99_s": ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)],
        "max_s": ordered[-1],
    }


def halves(rss: list[int]) -> tuple[float, float]:
    """Resident MiB in the first and the second half, without the first fifth."""
    steady = rss[len(rss) // 5 :]
    middle = len(steady) // 2
    first, second = steady[:middle], steady[middle:]
    return statistics.median(first) / 2**20, statistics.median(second) / 2**20


def measure(model: str, seconds: float, pause_s: float | None) -> tuple[Overload, float, bool]:
    """What became of them; seconds that they would take at most; whether the books balance."""
    with load(model, exporters=(), max_concurrent_requests=PLACES, max_queue_depth=QUEUE) as engine:

        def ask(number: int) -> str:
            prompt = f"Question {number}: what is it?"
            return engine.generate(prompt, **OPTIONS).stop_reason.value

        def batch() -> float:
            """Seconds of a batch as large as there are places: so they come before a request."""
            begin = time.perf_counter()
            overload(engine, ask, callers=PLACES, each=3)
            return (time.perf_counter() - begin) / 3

        overload(engine, ask, callers=PLACES, each=2)
        batch_s = batch()
        seen = overload(
            engine,
            ask,
            callers=CALLERS,
            seconds=seconds,
            pause_s=batch_s if pause_s is None else pause_s,
        )
        # A machine that others share may be slower by a half in one minute than in another.
        batch_s = max(batch_s, batch())
        stats = engine.stats()
    bound_s = batch_s * (1 + (PLACES + QUEUE) / PLACES) * 3
    balanced = stats.submitted == stats.ended and stats.kv_blocks_used == stats.prefix_blocks_idle
    return seen, bound_s, balanced


def main() -> int:
    """Measure and show; 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--pause", type=float, help="seconds before a caller asks again")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    seen, bound_s, balanced = measure(given.model, given.seconds, given.pause)
    first, second = halves(seen.rss)
    admitted, rejected = quantiles(seen.admitted_s), quantiles(seen.rejected_s)
    print(f"{CALLERS} callers, {PLACES} places, a queue of {QUEUE}: {dict(seen.outcomes)}")
    for name, row in (("admitted", admitted), ("turned away", rejected)):
        print(
            f"{name:12} {row['count']:>7}  p50 {row['p50_s'] * 1e3:8.1f} ms"
            f"  p99 {row['p99_s'] * 1e3:8.1f} ms  max {row['max_s'] * 1e3:8.1f} ms"
        )
    print(f"bound for the admitted: {bound_s * 1e3:.0f} ms (thrice the turns before them)")
    print(f"longest queue {seen.most_waiting}; resident {first:.1f} MiB, then {second:.1f} MiB")
    sound = {
        "clear": not seen.unclear,
        "balanced": balanced,
        "bounded": admitted["p99_s"] <= bound_s,
        "flat": second <= first * (1 + FLAT),
    }
    print(", ".join(f"{name}: {'yes' if held else 'NO'}" for name, held in sound.items()))
    if given.json:
        found = {"admitted": admitted, "rejected": rejected, "bound_s": bound_s, **sound}
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(not all(sound.values()))


if __name__ == "__main__":
    raise SystemExit(main())
