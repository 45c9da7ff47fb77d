"""Computing all outputs of a matrix and keeping the largest of each token, but no others.

A row of logits is some hundred kilobytes, which would be written, and read again, for one number.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import types

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of, call_function
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.matmul import LANE_BYTES
from smallmind_engine.kernels.numba_backend.emit.step_parts import (
    FLOAT_BYTES,
    clear_doubts,
    meet,
    next_groups,
)
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    F32,
    FLOATS,
    INTS,
    LANES,
    Code,
    Value,
    every,
    ir_function,
    zeros,
)
from smallmind_engine.kernels.numba_backend.records import (
    BEST_GROUPS,
    Job,
    Matrix,
    Size,
)

_NONE: Final = np.float32(-np.inf)


def _highest(code: Code, address: Value, count: Value) -> Value:
    b = code.b
    highest = code.variable(every(FLOATS, float("-inf")))
    odd = code.variable(zeros(INTS))
    with code.loop(0, count) as index:
        row = code.load(FLOATS, code.address(address, code.times(index, LANE_BYTES)), LANE_BYTES)
        before = b.load(highest)
        b.store(b.select(b.fcmp_ordered(">", row, before), row, before), highest)
        is_odd = b.sext(b.fcmp_unordered("uno", row, row), INTS)
        b.store(b.or_(b.load(odd), is_odd), odd)
    largest = code.external(
        ir.FunctionType(F32, [FLOATS]), "llvm.vector.reduce.fmax.v16f32", b.load(highest)
    )
    kind = ir.FunctionType(INTS.element, [INTS])
    any_odd = code.external(kind, "llvm.vector.reduce.or.v16i32", b.load(odd))
    nan = ir.Constant(F32, float("nan"))
    return b.select(b.icmp_signed("!=", any_odd, ir.Constant(INTS.element, 0)), nan, largest)


highest: Any = ir_function(_highest, 2, types.float32)
"""``(address, count)``: the highest of so many times 16 floats; NaN when there is any."""


@inner
def keep_best(s: Any, thread: int, job: Any, counter: int) -> None:
    """A thread's part of finding the best output for each of a few tokens.

    Args:
        s: the step; ``s.search`` receives the results, see ``buffers.SearchBuffers``.
        thread: which one, from 0.
        job: the thread's record, with the inputs filled in.
        counter: of the pieces.
    """
    n_wanted = s.sizes[Size.WANTED]
    best, best_row, outputs = s.search[5][thread], s.search[6][thread], s.search[8][thread]
    clear_doubts(s, thread)
    for token in range(n_wanted):
        best[token, 0] = _NONE
        best_row[token, 0] = -1
    matrix = s.matrices[s.sizes[Size.OUTPUT]]
    rows = matrix[Matrix.ROWS]
    job[Job.TOKEN_BEGIN] = 0
    job[Job.TOKEN_END] = n_wanted
    job[Job.OUT_STRIDE] = outputs.shape[1] * FLOAT_BYTES
    first, last = next_groups(s, thread, counter, BEST_GROUPS)
    while first < last:
        job[Job.GROUP_BEGIN] = first
        job[Job.GROUP_END] = last
        job[Job.OUT] = address_of(outputs) - first * LANE_BYTES
        call_function(matrix[Matrix.KERNEL], address_of(matrix), address_of(job))
        for token in range(n_wanted):
            row = outputs[token]
            for lane in range(rows - first * LANES, (last - first) * LANES):
                row[lane] = _NONE
            value = highest(address_of(row), last - first)
            if math.isnan(value):
                s.search[7][thread, 0] = 1
            elif value > best[token, 0]:
                lane = 0
                while row[lane] != value:
                    lane += 1
                best[token, 0] = value
                best_row[token, 0] = first * LANES + lane
        first, last = next_groups(s, thread, counter, BEST_GROUPS)
    meet(s)
