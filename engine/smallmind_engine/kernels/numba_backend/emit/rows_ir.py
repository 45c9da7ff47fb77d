"""Work on rows of activations: quantising, and the non-linearity of the feed-forward block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llvmlite import ir

from smallmind_engine.kernels.numba_backend.emit.input_scales import scale_place
from smallmind_engine.kernels.numba_backend.emit.math_ir import gelu_tanh, silu, tanh
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    F32,
    FLOATS,
    I32,
    INTS,
    LANES,
    SMALL_INTS,
    Code,
    Value,
    ir_function,
    number,
)
from smallmind_engine.kernels.numba_backend.records import InputScale

BLOCK: Final = 32
_LARGEST_CODE: Final = 127.0
_SMALLEST_SCALED: Final = 2.0**-120  # 127 divided by less may be infinite


def _largest_of(code: Code, halves: Sequence[Value]) -> Value:
    """The largest magnitude; what is no number is larger than all numbers."""
    b = code.b
    # Without signs the bits of floats are ordered as the floats are, and comparing integers takes
    # one instruction where leaving out what is no number takes three.
    first, second = (code.bits(code.unary("fabs", half), INTS) for half in halves)
    larger = b.select(b.icmp_signed(">", first, second), first, second)
    kind = ir.FunctionType(I32, [INTS])
    return code.bits(code.external(kind, "llvm.vector.reduce.smax.v16i32", larger), F32)


def _sum_of(code: Code, vector: Value) -> Value:
    kind = ir.FunctionType(I32, [INTS])
    return code.b.sitofp(code.external(kind, "llvm.vector.reduce.add.v16i32", vector), F32)


def _quantize(
    code: Code,
    source: Value,
    first: Value,
    end: Value,
    stride: Value,
    token: Value,
    codes: Value,
    scales: Value,
) -> None:
    b = code.b
    with code.loop(first, end) as block:
        base = code.address(source, code.times(block, 4 * BLOCK))
        halves = [code.load(FLOATS, code.address(base, 64 * i), 4) for i in range(2)]
        largest = _largest_of(code, halves)
        zero, top = ir.Constant(F32, 0.0), ir.Constant(F32, _LARGEST_CODE)
        scaled = b.fcmp_ordered(">", largest, ir.Constant(F32, _SMALLEST_SCALED))
        inverse = b.select(scaled, b.fdiv(top, largest), zero)
        factor = b.fdiv(largest, top)
        at = b.add(code.times(block, stride), token)
        total = []
        for index, half in enumerate(halves):
            quotient = b.fmul(half, code.splat(FLOATS, inverse))
            whole = b.fptosi(code.unary("rint", quotient), INTS)
            target = code.address(codes, code.times(at, BLOCK), LANES * index)
            code.store(b.trunc(whole, SMALL_INTS), target, LANES)
            total.append(b.fmul(factor, _sum_of(code, whole)))
            code.store(total[-1], scale_place(code, scales, at, InputScale.HALF_SUMS + index), 4)
        code.store(factor, scale_place(code, scales, at, InputScale.FACTOR), 4)
        code.store(b.fadd(*total), scale_place(code, scales, at, InputScale.SUM), 4)


quantize: Any = ir_function(_quantize, 7)
"""Quantise blocks ``first`` to ``end`` of a row to signed bytes.

Arguments: address of the row (float32); first, end: blocks of 32; stride, token: where blocks go,
at ``block * stride + token``; addresses of codes and scales (see ``Job``).
"""


def _activate(code: Code, kind: Value, gate: Value, up: Value, out: Value, count: Value) -> None:
    """``kind``: 0 SiLU, 1 GELU; ``up`` is 0 where there is no gate."""
    b = code.b

    def rows(function: Any, *, gated: bool) -> None:
        with code.loop(0, count, LANES) as index:
            at = code.times(index, 4)
            value = function(code, code.load(FLOATS, code.address(gate, at), 4))
            if gated:
                value = b.fmul(value, code.load(FLOATS, code.address(up, at), 4))
            code.store(value, code.address(out, at), 4)

    is_silu = b.icmp_signed("==", kind, number(0))
    is_gated = b.icmp_signed("!=", up, number(0))
    for function, chosen in ((silu, is_silu), (gelu_tanh, b.not_(is_silu))):
        with b.if_then(chosen), b.if_else(is_gated) as (with_gate, without):
            with with_gate:
                rows(function, gated=True)
            with without:
                rows(function, gated=False)


activate: Any = ir_function(_activate, 5)
"""``(kind, gate, up, out, count)``: activate ``count`` (a multiple of 16) floats, times ``up``."""


def _softcap(code: Code, values: Value, count: Value, cap: Value) -> None:
    limit = code.splat(FLOATS, cap)
    with code.loop(0, count, LANES) as index:
        place = code.address(values, code.times(index, 4))
        x = code.b.fdiv(code.load(FLOATS, place, 4), limit)
        code.store(code.b.fmul(limit, tanh(code, x)), place, 4)


softcap: Any = ir_function(_softcap, 3)
"""``(address, count, cap)``: squash ``count`` (a multiple of 16) floats into (-cap, cap)."""
