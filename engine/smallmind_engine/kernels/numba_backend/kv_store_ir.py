"""Writing one head's key or value of one position into a page of a KV cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.attention_ir import ITEM_BYTES
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import Put
from smallmind_engine.kernels.numba_backend.vector_ir import (
    F16,
    F32,
    I8,
    I16,
    I32,
    Code,
    Fields,
    Value,
    ir_function,
)

_LARGEST_CODE: Final = 127.0


def _half(code: Code, tier: IsaTier, value: Value) -> Value:
    """A float as half precision, to nearest even."""
    if tier is not IsaTier.PORTABLE:
        return code.b.fptrunc(value, F16)
    # Without an instruction LLVM would call a C function that need not be there. Scaling down by
    # 2^112 leaves the number where a shift by 13 bits makes it a half, subnormal ones included.
    b = code.b
    bits = code.bits(value, I32)
    sign = b.and_(b.lshr(bits, ir.Constant(I32, 16)), ir.Constant(I32, 0x8000))
    magnitude = code.unary("fabs", value)
    magnitude = code.binary("minnum", magnitude, ir.Constant(F32, 65504.0))
    small = code.bits(b.fmul(magnitude, ir.Constant(F32, 2.0**-112)), I32)
    odd = b.and_(b.lshr(small, ir.Constant(I32, 13)), ir.Constant(I32, 1))
    rounded = b.lshr(b.add(b.add(small, ir.Constant(I32, 0xFFF)), odd), ir.Constant(I32, 13))
    return code.bits(b.trunc(b.or_(rounded, sign), I16), F16)


def _factor(code: Code, source: Value, count: Value) -> Value:
    """The largest magnitude of ``count`` floats."""
    slot = code.variable(ir.Constant(F32, 0.0))
    with code.loop(0, count) as index:
        value = code.load(F32, code.address(source, code.times(index, 4)), 4)
        code.b.store(
            code.binary("maxnum", code.b.load(slot), code.unary("fabs", value)), slot
        )
    return code.b.load(slot)


def store_row(tier: IsaTier, kind: KVType) -> Callable[[int, int], None]:
    """The function ``(address of a Put record, 0)``. To be compiled by Numba."""
    size = ITEM_BYTES[kind]

    def emit(code: Code, job: Value, _unused: Value) -> None:
        b = code.b
        fields = Fields(code, job)
        source, count = fields[Put.SOURCE], fields[Put.COUNT]
        target, step = fields[Put.TARGET], fields[Put.STEP]
        inverse = None
        if kind is KVType.INT8:
            largest = _factor(code, source, count)
            zero, top = ir.Constant(F32, 0.0), ir.Constant(F32, _LARGEST_CODE)
            positive = b.fcmp_ordered(">", largest, zero)
            inverse = b.select(positive, b.fdiv(top, largest), zero)
            code.store(b.fdiv(largest, top), fields[Put.FACTOR], 4)
        with code.loop(0, count) as index:
            value = code.load(F32, code.address(source, code.times(index, 4)), 4)
            if inverse is not None:
                value = b.trunc(b.fptosi(code.unary("rint", b.fmul(value, inverse)), I32), I8)
            elif kind is KVType.F16:
                value = _half(code, tier, value)
            code.store(value, code.address(target, b.mul(index, step)), size)

    body: Any = ir_function(emit, 2)

    def kernel(job: int, unused: int) -> None:
        body(job, unused)

    return kernel
