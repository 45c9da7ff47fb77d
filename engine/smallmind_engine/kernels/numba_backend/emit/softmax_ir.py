"""The softmax of attention, over a page of positions at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llvmlite import ir

from smallmind_engine.kernels.numba_backend.emit.math_ir import exp
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    F32,
    FLOATS,
    I32,
    LANES,
    Code,
    Value,
    every,
    zeros,
)
from smallmind_engine.kernels.numba_backend.records import MAX_QUERY_ROWS

_BYTES: Final = 4 * LANES
_FEW: Final = ir.VectorType(F32, MAX_QUERY_ROWS)
_NOTHING: Final = ir.Constant(F32, float("-inf"))


def softmax(
    code: Code,
    rows: Sequence[Value],
    highest: Sequence[Value],
    totals: Sequence[Value],
    parts: Value,
) -> list[Value]:
    """Turn a page's scores into weights; answers what earlier sums are to be scaled by.

    All rows go through each part of it together: a row alone waits for itself.

    Args:
        code: where instructions go.
        rows: address of each row's scores.
        highest: slot of each row's highest score so far; changed.
        totals: slot of the sum of each row's weights so far; changed.
        parts: of 16 scores, that there are in each row.
    """
    b = code.b
    before = [b.load(slot) for slot in highest]
    largest = _largest(code, rows, parts)
    after = [code.larger(old, new) for old, new in zip(before, largest, strict=True)]
    zero = ir.Constant(F32, 0.0)
    against = [b.select(b.fcmp_ordered("==", each, _NOTHING), zero, each) for each in after]
    off = ir.Constant(_FEW, ir.Undefined)
    for index, pair in enumerate(zip(before, against, strict=True)):
        off = b.insert_element(off, b.fsub(*pair), ir.Constant(I32, index))
    corrections = exp(code, off)
    sums = _weigh(code, rows, [code.splat(FLOATS, each) for each in against], parts)
    answer = []
    for index, (slot, total) in enumerate(zip(totals, sums, strict=True)):
        correction = b.extract_element(corrections, ir.Constant(I32, index))
        answer.append(code.splat(FLOATS, correction))
        b.store(b.fadd(b.fmul(b.load(slot), correction), total), slot)
        b.store(after[index], highest[index])
    return answer


def _largest(code: Code, rows: Sequence[Value], parts: Value) -> list[Value]:
    """The largest of each row's scores."""
    slots = [code.variable(every(FLOATS, float("-inf"))) for _ in rows]
    with code.loop(0, parts) as part:
        for row, slot in zip(rows, slots, strict=True):
            score = code.load(FLOATS, code.address(row, code.times(part, _BYTES)), _BYTES)
            code.b.store(code.larger(code.b.load(slot), score), slot)
    return [code.folded(code.b.load(slot), code.larger) for slot in slots]


def _weigh(
    code: Code, rows: Sequence[Value], against: Sequence[Value], parts: Value
) -> list[Value]:
    """Turn each row's scores into weights, in place; answers their sums."""
    b = code.b
    slots = [code.variable(zeros(FLOATS)) for _ in rows]
    with code.loop(0, parts) as part:
        for row, start, slot in zip(rows, against, slots, strict=True):
            place = code.address(row, code.times(part, _BYTES))
            score = code.load(FLOATS, place, _BYTES)
            seen = b.fcmp_unordered(">", score, every(FLOATS, float("-inf")))
            weight = b.select(seen, exp(code, b.fsub(score, start)), zeros(FLOATS))
            code.store(weight, place, _BYTES)
            b.store(b.fadd(b.load(slot), weight), slot)
    return [code.folded(b.load(slot), b.fadd) for slot in slots]
