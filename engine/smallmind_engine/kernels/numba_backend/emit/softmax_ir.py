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
from smallmind_engine.kernels.numba_backend.records import MAX_QUERY_ROWS, PAGE_TOKENS

_BYTES: Final = 4 * LANES
_FEW: Final = ir.VectorType(F32, MAX_QUERY_ROWS)
_NOTHING: Final = ir.Constant(F32, float("-inf"))


def softmax(
    code: Code, rows: Sequence[Value], highest: Sequence[Value], totals: Sequence[Value]
) -> list[Value]:
    """Turn a page's scores into weights; answers what earlier sums are to be scaled by.

    All rows go through each part of it together: a row alone waits for itself.

    Args:
        code: where instructions go.
        rows: address of each row's scores.
        highest: slot of each row's highest score so far; changed.
        totals: slot of the sum of each row's weights so far; changed.
    """
    b = code.b
    before = [b.load(slot) for slot in highest]
    after = [code.larger(old, _largest(code, row)) for old, row in zip(before, rows, strict=True)]
    zero = ir.Constant(F32, 0.0)
    against = [b.select(b.fcmp_ordered("==", each, _NOTHING), zero, each) for each in after]
    off = ir.Constant(_FEW, ir.Undefined)
    for index, pair in enumerate(zip(before, against, strict=True)):
        off = b.insert_element(off, b.fsub(*pair), ir.Constant(I32, index))
    corrections = exp(code, off)
    answer = []
    for index, row in enumerate(rows):
        correction = b.extract_element(corrections, ir.Constant(I32, index))
        answer.append(code.splat(FLOATS, correction))
        total = _weigh(code, row, code.splat(FLOATS, against[index]))
        b.store(b.fadd(b.fmul(b.load(totals[index]), correction), total), totals[index])
        b.store(after[index], highest[index])
    return answer


def _places(code: Code, row: Value) -> list[Value]:
    return [code.address(row, _BYTES * part) for part in range(PAGE_TOKENS // LANES)]


def _largest(code: Code, row: Value) -> Value:
    """The largest of a row's scores."""
    largest, *others = (code.load(FLOATS, place, _BYTES) for place in _places(code, row))
    for score in others:
        largest = code.larger(largest, score)
    return code.folded(largest, code.larger)


def _weigh(code: Code, row: Value, against: Value) -> Value:
    """Turn a row's scores into weights, in place; answers their sum."""
    b = code.b
    weights = []
    for place in _places(code, row):
        score = code.load(FLOATS, place, _BYTES)
        seen = b.fcmp_unordered(">", score, every(FLOATS, float("-inf")))
        weight = b.select(seen, exp(code, b.fsub(score, against)), zeros(FLOATS))
        code.store(weight, place, _BYTES)
        weights.append(weight)
    total, *others = weights
    for weight in others:
        total = b.fadd(total, weight)
    return code.folded(total, b.fadd)
