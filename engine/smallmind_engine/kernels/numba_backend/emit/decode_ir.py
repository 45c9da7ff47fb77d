"""Taking a block of packed weights apart: codes as bytes, scales as floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llvmlite import ir

from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    BYTES,
    FLOATS,
    HALVES,
    I8,
    I16,
    INTS,
    LANES,
    SMALL_INTS,
    Code,
    Value,
    every,
    zeros,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.packing import IQ4_VALUES, PackedLayout

VECTOR_BYTES: Final = 64
QUADS: Final = 8  # of four inputs each, in a block
TABLE_ZERO: Final = 128
"""What is added to the values of the codebook, so that they are unsigned."""


@dataclass(frozen=True, slots=True)
class Scales:
    """Factor and offset of 16 rows in (half) a block.

    Attributes:
        factor: 16 floats.
        offset: 16 floats, added once for each unit of the inputs' sum.
    """

    factor: Value
    offset: Value


def largest_code(layout: PackedLayout) -> int:
    """What a code can be at most."""
    if layout.codebook:
        return TABLE_ZERO + max(IQ4_VALUES)
    return (1 << (layout.base_bits + layout.high_bits)) - 1


def low_bytes(layout: PackedLayout) -> int:
    """Bytes of 16 rows of a block in the low plane."""
    return layout.base_bits * VECTOR_BYTES


def high_bytes(layout: PackedLayout) -> int:
    """Likewise in the high plane."""
    return layout.high_bits * VECTOR_BYTES


def scale_bytes(layout: PackedLayout) -> int:
    """Likewise in the plane of scales."""
    size = 1 if layout.is_super else 2
    return LANES * size * (32 // layout.sub_size) * (2 if layout.has_min else 1)


def codes(code: Code, tier: IsaTier, layout: PackedLayout, low: Value, high: Value) -> list[Value]:
    """The codes of 16 rows of a block: 8 vectors of 64 unsigned bytes, four inputs each.

    Args:
        code: where instructions go.
        tier: which instructions.
        layout: of the weights.
        low: address of the block in the low plane.
        high: and in the high plane.
    """
    per_vector = 8 // layout.base_bits
    vectors = [
        code.load(BYTES, code.address(low, VECTOR_BYTES * index), VECTOR_BYTES)
        for index in range(layout.base_bits)
    ]
    values = [
        _field(code, vectors[quad // per_vector], layout.base_bits, quad % per_vector)
        for quad in range(QUADS)
    ]
    if layout.codebook:
        return [_looked_up(code, tier, value) for value in values]
    if not layout.high_bits:
        return values
    above = [
        code.load(BYTES, code.address(high, VECTOR_BYTES * index), VECTOR_BYTES)
        for index in range(layout.high_bits)
    ]
    per_vector = QUADS // layout.high_bits
    return [
        code.b.or_(
            value,
            moved_bits(
                code,
                above[quad // per_vector],
                layout.high_bits,
                quad % per_vector * layout.high_bits,
                layout.base_bits,
            ),
        )
        for quad, value in enumerate(values)
    ]


def _field(code: Code, vector: Value, bits: int, index: int) -> Value:
    """One of the fields that share each byte."""
    return vector if bits == 8 else moved_bits(code, vector, bits, index * bits, 0)


def moved_bits(code: Code, vector: Value, bits: int, at: int, to: int) -> Value:
    """``bits`` bits of each byte, from bit ``at`` to bit ``to``; the others are zero."""
    if at > to:
        vector = _shifted(code, code.b.lshr, vector, at - to)
    elif at < to:
        vector = _shifted(code, code.b.shl, vector, to - at)
    return code.b.and_(vector, every(BYTES, ((1 << bits) - 1) << to))


def _shifted(code: Code, shift: object, vector: Value, count: int) -> Value:
    # As 16-bit lanes, since x86 shifts no bytes; what crosses a border is masked away.
    words = ir.VectorType(I16, 2 * LANES)
    moved = shift(code.bits(vector, words), every(words, count))  # type: ignore[operator]
    return code.bits(moved, BYTES)


def _looked_up(code: Code, tier: IsaTier, index: Value) -> Value:
    table = [value + TABLE_ZERO for value in IQ4_VALUES]
    lanes = {
        IsaTier.AVX512_VNNI: 64,
        IsaTier.AVX_VNNI: 32,
        IsaTier.AVX2: 32,
        IsaTier.NEON_DOTPROD: 16,
        IsaTier.PORTABLE: 0,
    }[tier]
    if not lanes:
        answer = zeros(BYTES)
        for place, value in enumerate(table):
            here = code.b.icmp_unsigned("==", index, every(BYTES, place))
            answer = code.b.select(here, every(BYTES, value), answer)
        return answer
    name = {
        64: "llvm.x86.avx512.pshuf.b.512",
        32: "llvm.x86.avx2.pshuf.b",
        16: "llvm.aarch64.neon.tbl1.v16i8",
    }[lanes]
    kind = ir.VectorType(I8, lanes)
    values = ir.Constant(kind, table * (lanes // 16))
    function = ir.FunctionType(kind, [kind, kind])
    return code.joined(
        [
            code.external(function, name, values, code.part(index, begin, lanes))
            for begin in range(0, 64, lanes)
        ]
    )


def scales(
    code: Code, tier: IsaTier, layout: PackedLayout, at: Value, supers: Value
) -> list[Scales]:
    """Factors and offsets of 16 rows of a block; one or, with sub-blocks of 16, two.

    Args:
        code: where instructions go.
        tier: which instructions.
        layout: of the weights.
        at: address of the block in the plane of scales.
        supers: address of its super-block in the plane of supers.
    """
    size = LANES * (1 if layout.is_super else 2)
    whole = _super_scales(code, tier, layout, supers) if layout.is_super else []
    answer = []
    place = 0
    for _ in range(32 // layout.sub_size):
        parts = []
        for index in range(2 if layout.has_min else 1):
            address = code.address(at, place)
            place += size
            if layout.is_super:
                small = code.load(SMALL_INTS, address, LANES)
                parts.append(code.b.fmul(code.b.sitofp(small, FLOATS), whole[index]))
            else:
                parts.append(load_halves(code, tier, address, 2 * LANES))
        factor = parts[0]
        zero = TABLE_ZERO if layout.codebook else layout.zero
        offset = parts[1] if layout.has_min else code.b.fmul(factor, every(FLOATS, -float(zero)))
        answer.append(Scales(factor, offset))
    return answer


def _super_scales(code: Code, tier: IsaTier, layout: PackedLayout, supers: Value) -> list[Value]:
    return [
        load_halves(code, tier, code.address(supers, 2 * LANES * index), 2 * LANES)
        for index in range(2 if layout.has_min else 1)
    ]


def load_halves(code: Code, tier: IsaTier, address: Value, align: int) -> Value:
    """16 half-precision numbers as floats."""
    if tier is not IsaTier.PORTABLE:
        return code.b.fpext(code.load(HALVES, address, align), FLOATS)
    # Without an instruction LLVM would call a C function that need not be there. Moved into the
    # exponent range of floats and scaled back, which is right for subnormal numbers too.
    shorts = code.load(ir.VectorType(I16, LANES), address, align)
    wide = code.b.zext(shorts, INTS)
    magnitude = code.b.shl(code.b.and_(wide, every(INTS, 0x7FFF)), every(INTS, 13))
    value = code.b.fmul(code.bits(magnitude, FLOATS), every(FLOATS, 2.0**112))
    # Infinity, and what is no number, come out as 2^16 and more: their exponent is set.
    special = code.b.fcmp_ordered(">=", value, every(FLOATS, 2.0**16))
    exponent = code.b.select(special, every(INTS, 0x7F800000), zeros(INTS))
    value = code.bits(code.b.or_(code.bits(value, INTS), exponent), FLOATS)
    sign = code.b.shl(code.b.and_(wide, every(INTS, 0x8000)), every(INTS, 16))
    return code.bits(code.b.or_(code.bits(value, INTS), sign), FLOATS)


def load_bfloats(code: Code, address: Value, align: int) -> Value:
    """16 bfloat16 numbers as floats."""
    shorts = code.load(ir.VectorType(I16, LANES), address, align)
    return code.bits(code.b.shl(code.b.zext(shorts, INTS), every(INTS, 16)), FLOATS)
