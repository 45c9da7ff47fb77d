"""Small things that all parts of a step use."""

from __future__ import annotations

import platform
from typing import Any, Final

from llvmlite import ir
from numba.core import types

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of
from smallmind_engine.kernels.numba_backend.emit.compiled import inner, inner_inlined
from smallmind_engine.kernels.numba_backend.emit.rows_ir import BLOCK, quantize
from smallmind_engine.kernels.numba_backend.emit.sync_ir import (
    atomic_add,
    atomic_read,
    wait_for_all,
)
from smallmind_engine.kernels.numba_backend.emit.vector_ir import I64, Code, Value, ir_function
from smallmind_engine.kernels.numba_backend.records import (
    COUNTER_WORDS,
    Job,
    Matrix,
    Operation,
    Size,
)

FLOAT_BYTES: Final = 4
_OPERATIONS: Final = len(Operation)


def _clock(code: Code) -> Value:
    # The cycle counter of ARM is not for programs.
    steady = platform.machine().lower() in {"aarch64", "arm64"}
    name = "llvm.readsteadycounter" if steady else "llvm.readcyclecounter"
    return code.external(ir.FunctionType(I64, []), name)


clock: Any = ir_function(_clock, 0, types.int64)
"""A counter that goes up steadily; the caller finds out how fast."""


@inner
def mark(s: Any, thread: int, layer: int, operation: int) -> None:
    """Write down when an operation ended, when somebody wants to know."""
    if thread == 0 and s.sizes[Size.TIMED]:
        s.times[1 + (layer - s.sizes[Size.LAYER_BEGIN]) * _OPERATIONS + operation] = clock()


@inner
def meet(s: Any) -> None:
    """Wait for all threads of the team."""
    wait_for_all(address_of(s.barrier), s.sizes[Size.THREADS])


@inner
def meet_if_shared(s: Any) -> None:
    """Wait for the others unless each thread has done all of the work for itself."""
    if not s.sizes[Size.PRIVATE]:
        meet(s)


@inner
def share_of(thread: int, turn: int, threads: int, units: int) -> tuple[int, int, int]:
    """Whose share of some work a thread takes from in its ``turn``: its own first.

    Shares are the same in every step: what a thread has written or asked for is in its cache.

    Args:
        thread: which one.
        turn: from 0 to ``shares_of``.
        threads: in the team.
        units: of work.

    Returns:
        Which share it is, its first unit, and the one behind its last.
    """
    shares = shares_of(threads)
    share = (thread * shares // threads + turn) % shares
    return share, units * share // shares, units * (share + 1) // shares


@inner
def shares_of(threads: int) -> int:
    """How many shares there are: each has a word of the counter of an operation."""
    return min(threads, COUNTER_WORDS)


@inner
def next_groups(s: Any, thread: int, counter: int, at_once: int) -> tuple[int, int]:
    """The next piece of the output matrix: first group, and the one after the last.

    Pieces have at most ``at_once`` groups, and become smaller as less is left, so that all threads
    are done at about the same time. None is left when first and last are equal.
    """
    groups, threads = s.matrices[s.sizes[Size.OUTPUT], Matrix.GROUPS], s.sizes[Size.THREADS]
    for turn in range(shares_of(threads)):
        share, low, high = share_of(thread, turn, threads, groups)
        taken = address_of(s.counters[counter * COUNTER_WORDS + share :])
        size = max(1, min(at_once, (high - low - atomic_read(taken)) // 2))
        first = low + atomic_add(taken, size)
        if first < high:
            return first, min(first + size, high)
    return groups, groups


@inner
def clear_doubts(s: Any, thread: int) -> None:
    """Begin a search for the best outputs without doubts."""
    s.search[7][thread, 0] = 0
    s.search[7][thread, 1] = 0


@inner
def own_copy(s: Any, thread: int) -> int:
    """Which copy of the residual stream a thread works on."""
    return thread if s.sizes[Size.PRIVATE] else 0


@inner
def own_rows(s: Any, thread: int, count: int) -> tuple[int, int]:
    """The rows that a thread works on: all of its private copy, or its share."""
    if s.sizes[Size.PRIVATE]:
        return 0, count
    threads = s.sizes[Size.THREADS]
    return count * thread // threads, count * (thread + 1) // threads


@inner_inlined
def vector(vectors: Any, begin: int, size: int) -> Any:
    """A vector of the model; empty where there is none."""
    return vectors[:0] if begin < 0 else vectors[begin : begin + size]


@inner
def takes_codes(matrices: Any, index: int) -> bool:
    """Whether a matrix is there and takes quantised inputs."""
    return index >= 0 and matrices[index, Matrix.FLOAT_INPUT] == 0


@inner
def set_inputs(job: Any, planes: Any, floats: Any, stride: int) -> None:
    """Point a job at inputs: quantised ones, and the same as floats."""
    job[Job.STRIDE] = stride
    job[Job.CODES] = planes[0]
    job[Job.SCALES] = planes[1]
    job[Job.FLOATS] = address_of(floats)
    job[Job.FLOAT_STRIDE] = floats.shape[1] * FLOAT_BYTES


@inner
def quantize_row(row: Any, columns: int, token: int, job: Any) -> None:
    """Quantise a row to where the job takes its inputs from."""
    quantize(
        address_of(row), 0, columns // BLOCK, job[Job.STRIDE], token,
        job[Job.CODES], job[Job.SCALES],
    )  # fmt: skip


@inner
def writable(s: Any, row: Any, scratch: Any) -> Any:
    """A row that may be written to: threads with private copies must not change a shared one."""
    if not s.sizes[Size.PRIVATE]:
        return row
    # Not by slices: Numba's check of shapes takes seconds to compile.
    for i in range(len(row)):
        scratch[i] = row[i]
    return scratch
