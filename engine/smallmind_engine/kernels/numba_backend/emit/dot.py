"""Products of unsigned bytes with signed bytes, summed in fours, by the best instruction there is.

All ways give the same integers. Weights are the unsigned side. Sources: Intel 64 SDM volume 2,
VPDPBUSD, PMADDUBSW, PMADDWD; Arm A64 ISA, SDOT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from llvmlite import binding, ir

from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    BYTES,
    I8,
    I16,
    I32,
    INTS,
    LANES,
    Code,
    Value,
    every,
    zeros,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier

_INTS_8: Final = ir.VectorType(I32, 8)
_INTS_4: Final = ir.VectorType(I32, 4)
_BYTES_32: Final = ir.VectorType(I8, 32)
_BYTES_16: Final = ir.VectorType(I8, 16)
_SHORTS_16: Final = ir.VectorType(I16, 16)

_LARGEST_SHORT: Final = 32767
_LARGEST_BYTE: Final = 127

# Since then the intrinsic takes bytes; before, the same bits as 32-bit integers.
_LLVM_WITH_BYTES: Final = 22


def dot(
    code: Code, tier: IsaTier, weights: Sequence[Value], quads: Sequence[Value], largest: int
) -> Value:
    """Sums of products, one for each of 16 rows.

    Args:
        code: where instructions go.
        tier: which instructions.
        weights: vectors of 64 unsigned bytes, four of each row.
        quads: for each of them four signed bytes, as a 32-bit integer, the same for all rows.
        largest: what a weight can be at most; small ones allow shorter ways.

    Returns:
        16 32-bit integers.
    """
    return _WAYS[tier](code, weights, quads, largest)


def _vnni(
    code: Code, weights: Sequence[Value], quads: Sequence[Value], lanes: int, bits: int
) -> Value:
    ints, octets = ir.VectorType(I32, lanes), ir.VectorType(I8, 4 * lanes)
    operand = octets if binding.llvm_version_info[0] >= _LLVM_WITH_BYTES else ints
    kind = ir.FunctionType(ints, [ints, operand, operand])
    sums = [zeros(ints)] * (LANES // lanes)
    for weight, quad in zip(weights, quads, strict=True):
        x = code.bits(code.splat(ints, quad), operand)
        for index, total in enumerate(sums):
            w = code.bits(code.part(weight, index * 4 * lanes, 4 * lanes), operand)
            sums[index] = code.external(kind, f"llvm.x86.avx512.vpdpbusd.{bits}", total, w, x)
    return code.joined(sums)


def _avx512_vnni(
    code: Code, weights: Sequence[Value], quads: Sequence[Value], _largest: int
) -> Value:
    return _vnni(code, weights, quads, LANES, 512)


def _avx_vnni(code: Code, weights: Sequence[Value], quads: Sequence[Value], _largest: int) -> Value:
    return _vnni(code, weights, quads, LANES // 2, 256)


def _avx2(code: Code, weights: Sequence[Value], quads: Sequence[Value], largest: int) -> Value:
    if 2 * _LARGEST_BYTE * largest > _LARGEST_SHORT:
        return _by_words(code, weights, quads)
    together = _LARGEST_SHORT // (2 * _LARGEST_BYTE * largest)  # pairs that a short can hold
    pairs = ir.FunctionType(_SHORTS_16, [_BYTES_32, _BYTES_32])
    halves = []
    for half in range(2):
        total = zeros(_INTS_8)
        for begin in range(0, len(weights), together):
            shorts = zeros(_SHORTS_16)
            for weight, quad in zip(
                weights[begin : begin + together], quads[begin : begin + together], strict=True
            ):
                x = code.bits(code.splat(_INTS_8, quad), _BYTES_32)
                w = code.part(weight, 32 * half, 32)
                product = code.external(pairs, "llvm.x86.avx2.pmadd.ub.sw", w, x)
                shorts = code.b.add(shorts, product)
            total = code.b.add(total, _sum_of_words(code, shorts, every(_SHORTS_16, 1)))
        halves.append(total)
    return code.joined(halves)


def _sum_of_words(code: Code, first: Value, second: Value) -> Value:
    kind = ir.FunctionType(_INTS_8, [_SHORTS_16, _SHORTS_16])
    return code.external(kind, "llvm.x86.avx2.pmadd.wd", first, second)


def _by_words(code: Code, weights: Sequence[Value], quads: Sequence[Value]) -> Value:
    """For weights whose products a short cannot hold: even and odd bytes as words."""
    eight = every(_SHORTS_16, 8)
    halves = []
    for half in range(2):
        total = zeros(_INTS_8)
        for weight, quad in zip(weights, quads, strict=True):
            w = code.bits(code.part(weight, 32 * half, 32), _SHORTS_16)
            x = code.bits(code.splat(_INTS_8, quad), _SHORTS_16)
            even_w, odd_w = code.b.and_(w, every(_SHORTS_16, 255)), code.b.lshr(w, eight)
            even_x, odd_x = code.b.ashr(code.b.shl(x, eight), eight), code.b.ashr(x, eight)
            total = code.b.add(total, _sum_of_words(code, even_w, even_x))
            total = code.b.add(total, _sum_of_words(code, odd_w, odd_x))
        halves.append(total)
    return code.joined(halves)


def _neon_dotprod(
    code: Code, weights: Sequence[Value], quads: Sequence[Value], largest: int
) -> Value:
    """Signed by signed: weights beyond 127 are taken as 128 less, which is added again."""
    kind = ir.FunctionType(_INTS_4, [_INTS_4, _BYTES_16, _BYTES_16])
    name = "llvm.aarch64.neon.sdot.v4i32.v16i8"
    wide = largest > _LARGEST_BYTE
    sums = [zeros(_INTS_4)] * 4
    for weight, quad in zip(weights, quads, strict=True):
        x = code.bits(code.splat(_INTS_4, quad), _BYTES_16)
        signed = code.b.xor(weight, every(BYTES, 128)) if wide else weight
        again = code.external(kind, name, zeros(_INTS_4), every(_BYTES_16, 64), x) if wide else None
        for index in range(4):
            part = code.part(signed, 16 * index, 16)
            sums[index] = code.external(kind, name, sums[index], part, x)
            if again is not None:  # 128 = 2 * 64, as 128 is no signed byte
                sums[index] = code.b.add(sums[index], code.b.shl(again, every(_INTS_4, 1)))
    return code.joined(sums)


def _portable(code: Code, weights: Sequence[Value], quads: Sequence[Value], _largest: int) -> Value:
    total = zeros(INTS)
    for weight, quad in zip(weights, quads, strict=True):
        w = code.bits(weight, INTS)
        for index in range(4):
            shift = ir.Constant(I32, 24 - 8 * index)
            x = code.b.ashr(code.b.shl(quad, shift), ir.Constant(I32, 24))
            byte = code.b.and_(code.b.lshr(w, every(INTS, 8 * index)), every(INTS, 255))
            total = code.b.add(total, code.b.mul(byte, code.splat(INTS, x)))
    return total


_WAYS: Final[Mapping[IsaTier, Callable[[Code, Sequence[Value], Sequence[Value], int], Value]]] = {
    IsaTier.AVX512_VNNI: _avx512_vnni,
    IsaTier.AVX_VNNI: _avx_vnni,
    IsaTier.AVX2: _avx2,
    IsaTier.NEON_DOTPROD: _neon_dotprod,
    IsaTier.PORTABLE: _portable,
}
