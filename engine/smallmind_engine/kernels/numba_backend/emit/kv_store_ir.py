"""Writing one head's key or value of one position into a page of a KV cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llvmlite import ir

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    F16,
    F32,
    I8,
    I16,
    I32,
    Code,
    Fields,
    Value,
    kernel_of,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import ITEM_BYTES, Put

_LARGEST_CODE: Final = 127.0
_SMALLEST_SCALED: Final = 2.0**-120  # 127 divided by less may be infinite
_HALF_INFINITY: Final = 0x7C00
_SMALLEST_NORMAL: Final = 0x38800000  # 2^-14, of halves, as a float's bits


def _half(code: Code, tier: IsaTier, value: Value) -> Value:
    """A float as half precision, to nearest even."""
    if tier is not IsaTier.PORTABLE:
        return code.b.fptrunc(value, F16)
    # Without an instruction LLVM would call a C function that need not be there.
    b = code.b

    def int32(number: int) -> Value:
        return ir.Constant(I32, number)

    bits = code.bits(value, I32)
    sign = b.and_(b.lshr(bits, int32(16)), int32(0x8000))
    magnitude = b.and_(bits, int32(0x7FFFFFFF))
    moved = b.sub(magnitude, int32(112 << 23))  # to the exponents of halves
    odd = b.and_(b.lshr(moved, int32(13)), int32(1))
    half = b.lshr(b.add(b.add(moved, int32(0xFFF)), odd), int32(13))
    half = b.select(b.icmp_unsigned("<", half, int32(_HALF_INFINITY)), half, int32(_HALF_INFINITY))
    no_number = b.icmp_unsigned(">", magnitude, int32(0x7F800000))
    half = b.select(no_number, int32(_HALF_INFINITY | 0x200), half)
    # The last place of 0.5 is that of subnormal halves, so that adding it rounds them.
    tiny = b.fadd(code.unary("fabs", value), ir.Constant(F32, 0.5))
    is_tiny = b.icmp_unsigned("<", magnitude, int32(_SMALLEST_NORMAL))
    half = b.select(is_tiny, b.sub(code.bits(tiny, I32), int32(0x3F000000)), half)
    return code.bits(b.trunc(b.or_(half, sign), I16), F16)


def _factor(code: Code, source: Value, count: Value) -> Value:
    """The largest magnitude of ``count`` floats."""
    slot = code.variable(ir.Constant(F32, 0.0))
    with code.loop(0, count) as index:
        value = code.load(F32, code.address(source, code.times(index, 4)), 4)
        code.b.store(code.larger(code.unary("fabs", value), code.b.load(slot)), slot)
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
            scaled = b.fcmp_ordered(">", largest, ir.Constant(F32, _SMALLEST_SCALED))
            inverse = b.select(scaled, b.fdiv(top, largest), zero)
            code.store(b.fdiv(largest, top), fields[Put.FACTOR], 4)
        with code.loop(0, count) as index:
            value = code.load(F32, code.address(source, code.times(index, 4)), 4)
            if inverse is not None:
                value = b.trunc(b.fptosi(code.unary("rint", b.fmul(value, inverse)), I32), I8)
            elif kind is KVType.F16:
                value = _half(code, tier, value)
            code.store(value, code.address(target, b.mul(index, step)), size)

    return kernel_of(emit)
