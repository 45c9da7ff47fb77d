"""What the machine can do at most: memory reads, float products and 8-bit products a second.

    python tests/benchmarks/machine_limits.py [--threads N] [--quick]

prints one JSON object. NumPy takes its number of threads from the environment, so set
``OPENBLAS_NUM_THREADS`` when it is not to use all.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from int_dot_peak import int_dot_operations_per_second, unavailable_because

READ_BYTES = 512 << 20
"""Far more than any cache."""

READ_PASSES = 3
SGEMM_SHAPES = ((512, 1536, 1536), (1024, 1024, 1024), (512, 2048, 2048))
SGEMM_RUNS = 4
QUICK = 8
"""How much less is done in a quick measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLimits:
    """Limits measured with a number of threads.

    Attributes:
        read_method: what read the memory: ``numba`` or ``numpy``.
        sgemm_shape: rows, depth and columns of the fastest product.
        int_dot_operations_per_s: of 8-bit numbers; a multiplication and an addition count two.
            None where it was not measured.
        int_dot_missing: why it was not.
    """

    threads: int
    read_bytes_per_s: float
    read_method: str
    sgemm_flops_per_s: float
    sgemm_shape: tuple[int, int, int]
    int_dot_operations_per_s: float | None
    int_dot_missing: str | None


def available_threads() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure_limits(threads: int, *, quick: bool = False) -> MachineLimits:
    """Measure all of them; about two seconds, a quick measurement less than one."""
    less = QUICK if quick else 1
    read, method = read_bytes_per_second(threads, READ_BYTES // less)
    flops, shape = sgemm_flops_per_second(1 if quick else SGEMM_RUNS)
    missing = unavailable_because()
    return MachineLimits(
        threads=threads,
        read_bytes_per_s=read,
        read_method=method,
        sgemm_flops_per_s=flops,
        sgemm_shape=shape,
        int_dot_operations_per_s=(
            int_dot_operations_per_second(threads) if missing is None else None
        ),
        int_dot_missing=missing,
    )


def read_bytes_per_second(threads: int, size: int) -> tuple[float, str]:
    """The best of a few passes in which each thread reads its part; and what read it."""
    total, method = _reader()
    numbers = np.ones(size // 8, np.uint64)  # written, or all pages would be one page of zeros
    bounds = np.linspace(0, len(numbers), threads + 1).astype(int)
    parts = [numbers[begin:end] for begin, end in pairwise(bounds)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(total, [part[:8] for part in parts]))  # compiles, and starts the threads
        best = min(_seconds(lambda: list(pool.map(total, parts))) for _ in range(READ_PASSES))
    return numbers.nbytes / best, method


def sgemm_flops_per_second(runs: int) -> tuple[float, tuple[int, int, int]]:
    """The fastest of a few products of NumPy, in floating-point operations; and its shape."""
    best, best_shape = 0.0, SGEMM_SHAPES[0]
    for shape in SGEMM_SHAPES:
        m, k, n = shape
        a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
        out = np.empty((m, n), np.float32)
        np.matmul(a, b, out=out)
        for _ in range(runs):
            flops = 2 * m * k * n / _seconds(lambda: np.matmul(a, b, out=out))  # noqa: B023
            if flops > best:
                best, best_shape = flops, shape
    return best, best_shape


def _reader() -> tuple[Callable[[np.ndarray], int], str]:
    """A function that reads all of an array without holding the interpreter's lock."""
    try:
        from numba import njit
    except ImportError:
        return lambda numbers: int(np.add.reduce(numbers)), "numpy"

    @njit("uint64(uint64[::1])", nogil=True)
    def total(numbers):
        answer = np.uint64(0)
        for number in numbers:
            answer += number
        return answer

    return total, "numba"


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    print(json.dumps(asdict(measure_limits(arguments.threads, quick=arguments.quick))))


if __name__ == "__main__":
    main()
