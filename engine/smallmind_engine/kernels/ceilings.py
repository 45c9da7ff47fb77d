"""What the machine can do at most, so that operations can be held against it.

Quick figures: a few hundred milliseconds in all, once in a process for each backend and number of
threads. Other work on the machine makes them lower; the best of a few rounds is taken.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

_READ_BYTES: Final = 96 << 20
"""More than the last cache of most machines: what a larger one still holds counts as memory."""

_ROUNDS: Final = 8
_SGEMM_SIZE: Final = 768
_WARM_WORDS: Final = 8

_T = TypeVar("_T")
_Words = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The most that was measured.

    Attributes:
        threads: that read memory and multiply bytes; those of float products are BLAS's own.
        read_bytes_per_second: of memory that is in no cache.
        flops_per_second: of a float32 matrix product of NumPy.
        byte_ops_per_second: of products of bytes, a multiplication and an addition counting two;
            None for a backend without such kernels.
    """

    threads: int
    read_bytes_per_second: float
    flops_per_second: float
    byte_ops_per_second: float | None


class MeasuredCeilings:
    """The figures of this process: loads that come at once wait for one measurement."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], Ceilings] = {}

    def get(self, what: str, threads: int, measure: Callable[[int], Ceilings]) -> Ceilings:
        """The figures of ``what`` (a name for the way of computing), measured when not known."""
        with self._lock:
            known = self._known.get((what, threads))
            if known is None:
                known = self._known[what, threads] = measure(threads)
            return known


MEASURED: Final = MeasuredCeilings()


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def numpy_ceilings(threads: int) -> Ceilings:
    """Ceilings of code that leaves its work to NumPy."""
    return Ceilings(threads, read_bytes_per_second(threads, _sum), sgemm_flops_per_second(), None)


def _sum(words: _Words) -> int:
    return int(np.add.reduce(words))


def read_bytes_per_second(threads: int, read: Callable[[_Words], int]) -> float:
    """How fast threads read memory, each a part of its own.

    Args:
        threads: at once.
        read: goes through an array without holding the GIL.
    """
    words = np.ones(_READ_BYTES // 8, np.int64)  # written, or all pages would be one of zeros
    bounds = np.linspace(0, len(words), threads + 1).astype(int)
    parts = [words[begin:end] for begin, end in pairwise(bounds)]
    return words.nbytes / best_of_rounds(read, parts, [part[:_WARM_WORDS] for part in parts])


def sgemm_flops_per_second() -> float:
    """How fast NumPy multiplies float32 matrices."""
    a, b = (np.ones((_SGEMM_SIZE, _SGEMM_SIZE), np.float32) for _ in range(2))
    out = np.empty_like(a)
    np.matmul(a, b, out=out)
    best = min(_seconds(lambda: np.matmul(a, b, out=out)) for _ in range(_ROUNDS))
    return 2 * _SGEMM_SIZE**3 / best


def best_of_rounds(
    work: Callable[[_T], object], parts: Sequence[_T], warm_up: Sequence[_T]
) -> float:
    """Seconds of the fastest round in which one thread for each part works on it."""
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(work, warm_up))
        return min(_seconds(lambda: list(pool.map(work, parts))) for _ in range(_ROUNDS))


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
