"""Feeds damaged files to the reader; only clear errors may come out, soon, and from little memory.

Run: python tests/benchmarks/fuzz_gguf.py --count 100000 --seed 0
A violation is printed with the arguments that bring back this one mutant; the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gguf_mutations import base_files, excess_bytes, mutant, outcome

MOST_S = 2.0
"""CPU seconds that a mutant may take."""
MEMORY_EVERY = 20
"""Allocations of each so-many-th mutant are traced, which is slow."""


def violation(content: bytes, counts: Counter[str], *, trace_memory: bool) -> str | None:
    """Run one mutant; answers what went wrong, or None."""
    begin = time.process_time()
    try:
        counts[outcome(content)] += 1
        excess = excess_bytes(content) if trace_memory else -1
    except Exception:  # noqa: BLE001 - any exception that gets here is a finding
        return traceback.format_exc()
    seconds = time.process_time() - begin
    if excess > 0:
        return f"{excess} bytes more than allowed, for a file of {len(content)}"
    return f"{seconds:.2f} s of CPU time" if seconds > MOST_S else None


def main() -> int:
    """Run; answers the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run just this mutant")
    parser.add_argument("--save", type=Path, help="where to write the mutant of --only")
    parser.add_argument("--seconds-limit", type=float, default=float("inf"))
    parser.add_argument("--most-violations", type=int, default=10)
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    bases = base_files()
    counts: Counter[str] = Counter()
    violations = 0
    begin = time.monotonic()
    indices = range(arguments.count) if arguments.only is None else [arguments.only]
    for index in indices:
        if time.monotonic() - begin > arguments.seconds_limit:
            break
        content = mutant(bases, arguments.seed, index)
        if arguments.save is not None and arguments.only is not None:
            arguments.save.write_bytes(content)
        trace = index % MEMORY_EVERY == 0 or arguments.only is not None
        found = violation(content, counts, trace_memory=trace)
        if found is not None:
            violations += 1
            print(f"VIOLATION --seed {arguments.seed} --only {index}\n{found}")
            if violations >= arguments.most_violations:
                break
    for name, count in counts.most_common():
        print(f"{count:8} {name}")
    total = sum(counts.values()) + violations
    seconds = time.monotonic() - begin
    print(f"{total:8} mutants of seed {arguments.seed} in {seconds:.0f} s, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
