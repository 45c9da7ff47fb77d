"""Atomic counters and a barrier: how the threads of a team agree, without the operating system.

A barrier is two 64-bit words on cache lines of their own: threads that arrived, and rounds that
are over.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from llvmlite import ir
from numba.core import types

from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    I32,
    I64,
    Code,
    Value,
    ir_function,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier, choose_tier
from smallmind_engine.kernels.numba_backend.records import LINE_WORDS

_SPINS: Final = 4096
"""Rounds of waiting before the rest of the time slice is given away."""

_LONGEST_SPIN: Final = 20_000
"""Rounds of waiting for the next step: some 0.3 ms."""


def _add(code: Code, address: Value, value: Value) -> Value:
    pointer = code.b.inttoptr(address, I64.as_pointer())
    return code.b.atomic_rmw("add", pointer, value, "seq_cst")


def _read(code: Code, address: Value) -> Value:
    return code.b.load_atomic(code.b.inttoptr(address, I64.as_pointer()), "acquire", 8)


def _write(code: Code, address: Value, value: Value) -> None:
    pointer = code.b.inttoptr(address, I64.as_pointer())
    code.b.store_atomic(value, pointer, "release", 8)


def _pause(code: Code) -> None:
    """Tell the core that this is a waiting loop."""
    nothing = ir.FunctionType(ir.VoidType(), [])
    tier = choose_tier()
    if tier is IsaTier.NEON_DOTPROD:
        hint = ir.FunctionType(ir.VoidType(), [I32])
        code.external(hint, "llvm.aarch64.hint", ir.Constant(I32, 1))
    elif tier is not IsaTier.PORTABLE:
        code.external(nothing, "llvm.x86.sse2.pause")


def _yield(code: Code) -> None:
    """Let another thread run on this core, where the platform has a call for it."""
    if sys.platform != "win32":
        code.external(ir.FunctionType(I32, []), "sched_yield")


atomic_add: Any = ir_function(_add, 2, types.int64)
"""``(address, value)`` -> the value before."""

_atomic_read: Any = ir_function(_read, 1, types.int64)
_atomic_write: Any = ir_function(_write, 2)
_pause_core: Any = ir_function(_pause, 0)
_yield_core: Any = ir_function(_yield, 0)


@inner
def wait_for_all(barrier: int, threads: int) -> None:
    """Return once ``threads`` threads are here; what they wrote before is then visible.

    Args:
        barrier: address of ``BARRIER_WORDS`` zeroed words.
        threads: that take part in every round.
    """
    if threads == 1:
        return
    rounds = barrier + 8 * LINE_WORDS
    current = _atomic_read(rounds)
    if atomic_add(barrier, 1) == threads - 1:
        _atomic_write(barrier, 0)
        _atomic_write(rounds, current + 1)
        return
    spins = 0
    while _atomic_read(rounds) == current:
        spins += 1
        if spins < _SPINS:
            _pause_core()
        else:
            _yield_core()


@inner
def spin_until(word: int, value: int) -> int:
    """Wait for a fraction of a millisecond until a word is larger than ``value``.

    Args:
        word: its address.
        value: to compare with.

    Returns:
        1 when it is, else 0.
    """
    for _ in range(_LONGEST_SPIN):
        if _atomic_read(word) > value:
            return 1
        _pause_core()
    return 0
