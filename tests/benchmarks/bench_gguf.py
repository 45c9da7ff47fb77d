"""How fast model files are opened, identified and hashed; with the gguf package beside it.

Run: python tests/benchmarks/bench_gguf.py [FILE ...] [--beside]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from smallmind_engine.gguf import GgufFile

MOST_OPEN_S = 0.5
"""Promised for the 262,144 tokens of Gemma 3."""
NAMES = ("smollm2", "gemma3-270m")


def seconds(
    work: Callable[[], object],
    repeats: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Best of some runs: what the work takes when nobody else is at work."""
    times = []
    for _ in range(repeats):
        begin = clock()
        work()
        times.append(clock() - begin)
    return min(times)


def known_models() -> list[Path]:
    """The models of the registry; fetched when they are not there yet."""
    from smallmind._registry import resolve

    return [resolve(name) for name in NAMES]


def report(path: Path, *, beside: bool) -> bool:
    """Print the figures of one file; answers whether the promise is kept."""
    open_s = seconds(lambda: GgufFile.open(path).close())
    cpu_s = seconds(lambda: GgufFile.open(path).close(), clock=time.process_time)
    with GgufFile.open(path) as file:
        mega = file.file_bytes / 1e6
        lists = [value for value in file.metadata.values() if isinstance(value, list)]
        print(
            f"{path.name}: {mega:.0f} MB, {len(file.tensors)} tensors, {len(file.metadata)} keys,"
        )
        print(f"  {max(map(len, lists), default=0)} strings in the longest list")
        print(f"  open          {open_s * 1e3:9.1f} ms   (at most {MOST_OPEN_S * 1e3:.0f} ms)")
        print(f"  of that, CPU  {cpu_s * 1e3:9.1f} ms")
        print(f"  fingerprint   {seconds(file.fingerprint) * 1e3:9.1f} ms")
        print(f"  sha256        {mega / seconds(file.sha256, 1):9.1f} MB/s")
    if beside:
        import gguf

        print(f"  gguf package  {seconds(lambda: gguf.GGUFReader(path), 1) * 1e3:9.1f} ms to open")
    return open_s <= MOST_OPEN_S


def main() -> int:
    """Run; answers the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--beside", action="store_true", help="time the gguf package, too (slow)")
    arguments = parser.parse_args()
    kept = [report(path, beside=arguments.beside) for path in arguments.files or known_models()]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    raise SystemExit(main())
