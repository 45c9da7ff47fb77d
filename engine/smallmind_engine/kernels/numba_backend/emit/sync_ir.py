"""Atomic counters and a barrier: how the threads of a team agree, without the operating system.

A barrier is two 64-bit words on cache lines of their own: threads that arrived, and rounds that
are over.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from llvmlite import ir
from numba.core import types

from smallmind_engine.kernels.numba_backend.emit.addresses import call_function
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    I32,
    I64,
    Code,
    Value,
    ir_function,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier, choose_tier
from smallmind_engine.kernels.numba_backend.records import LINE_WORDS, Mail

_SPINS: Final = 4096
"""Rounds of waiting before the rest of the time slice is given away."""

_LONGEST_WAIT: Final = 100_000
"""Rounds of waiting for the next call: some 2 ms, which the next token's step takes to come even
where all that Python needs for it has left the caches meanwhile."""

_WAITS_A_YIELD: Final = 1024
"""So often others may have the core: some of them may prepare that call."""


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

atomic_read: Any = ir_function(_read, 1, types.int64)
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
    current = atomic_read(rounds)
    if atomic_add(barrier, 1) == threads - 1:
        _atomic_write(barrier, 0)
        _atomic_write(rounds, current + 1)
        return
    spins = 0
    while atomic_read(rounds) == current:
        spins += 1
        if spins < _SPINS:
            _pause_core()
        else:
            _yield_core()


@inner
def lead(mailbox: int, _unused: int) -> None:
    """Begin the call that the mailbox tells of, for all of a team, and do the leader's part.

    Both here, so that nothing can come between: members whose leader does not come to a barrier
    would wait for it for ever.

    Args:
        mailbox: address of the team's words, see ``records.Mail``.
    """
    function = atomic_read(mailbox + 8 * Mail.FUNCTION)
    atomic_add(mailbox + 8 * Mail.CALLS, 1)
    if function != 0:
        call_function(function, 0, atomic_read(mailbox + 8 * Mail.ARGUMENT))


@inner
def serve(mailbox: int, member: int) -> int:
    """Do the calls of a team's leader as they come.

    Args:
        mailbox: address of its words, see ``records.Mail``.
        member: which of the team; how many calls it has done is in the mailbox, too.

    Returns:
        1 when none has come for some milliseconds, 0 when it is to end.
    """
    seen = mailbox + 8 * (Mail.SEEN + member * LINE_WORDS)
    done = atomic_read(seen)
    waits = 0
    while waits < _LONGEST_WAIT:
        if atomic_read(mailbox + 8 * Mail.CALLS) > done:
            function = atomic_read(mailbox + 8 * Mail.FUNCTION)
            if function == 0:
                return 0
            call_function(function, member, atomic_read(mailbox + 8 * Mail.ARGUMENT))
            done += 1
            _atomic_write(seen, done)
            waits = 0
            continue
        waits += 1
        if waits % _WAITS_A_YIELD == 0:
            _yield_core()
        else:
            _pause_core()
    return 1
