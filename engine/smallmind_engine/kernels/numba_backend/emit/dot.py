"""Products of unsigned bytes with signed bytes, summed in fours, by the best instruction there is.

All ways give the same integers. Weights are the unsigned side. Sources: Intel 64 SDM volume 2,
VPDPBUSD, PMADDUBSW, PMADDWD; Arm A64 ISA, SDOT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from llvmlite import binding, ir

from smallmind_engine.kernels.numba_backend.emit.decode_ir import moved_bits
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
_LARGEST_NIBBLE: Final = 15

Tokens = Sequence[Sequence[Value]]
_Way = Callable[[Code, Sequence[Value], Tokens, int], list[Value]]

# Since then the intrinsic takes bytes; before, the same bits as 32-bit integers.
_LLVM_WITH_BYTES: Final = 22


def dot(
    code: Code, tier: IsaTier, weights: Sequence[Value], quads: Sequence[Value], largest: int
) -> Value:
    """The same as ``dots`` for one token."""
    return dots(code, tier, weights, [quads], largest)[0]


def dots(
    code: Code, tier: IsaTier, weights: Sequence[Value], tokens: Tokens, largest: int
) -> list[Value]:
    """Sums of products, one for each of 16 rows, for several tokens.

    Each weight is used for all tokens before the next one is: where there are few registers, the
    sums stay in them and the weights pass through.

    Args:
        code: where instructions go.
        tier: which instructions.
        weights: vectors of 64 unsigned bytes, four of each row.
        tokens: for each of them and each vector four signed bytes, as a 32-bit integer, the same
            for all rows.
        largest: what a weight can be at most; small ones allow shorter ways.

    Returns:
        16 32-bit integers for each token.
    """
    return _WAYS[tier](code, weights, tokens, largest)


def _vnni(
    code: Code, weights: Sequence[Value], tokens: Tokens, lanes: int, bits: int
) -> list[Value]:
    ints, octets = ir.VectorType(I32, lanes), ir.VectorType(I8, 4 * lanes)
    operand = octets if binding.llvm_version_info[0] >= _LLVM_WITH_BYTES else ints
    kind = ir.FunctionType(ints, [ints, operand, operand])
    parts = range(LANES // lanes)
    sums = [[zeros(ints) for _ in parts] for _ in tokens]
    for index, weight in enumerate(weights):
        ws = [code.bits(code.part(weight, part * 4 * lanes, 4 * lanes), operand) for part in parts]
        for token, total in zip(tokens, sums, strict=True):
            x = code.bits(code.splat(ints, token[index]), operand)
            for part, w in enumerate(ws):
                name = f"llvm.x86.avx512.vpdpbusd.{bits}"
                total[part] = code.external(kind, name, total[part], w, x)
    return [code.joined(total) for total in sums]


def _avx512_vnni(
    code: Code, weights: Sequence[Value], tokens: Tokens, _largest: int
) -> list[Value]:
    return _vnni(code, weights, tokens, LANES, 512)


def _avx_vnni(code: Code, weights: Sequence[Value], tokens: Tokens, _largest: int) -> list[Value]:
    return _vnni(code, weights, tokens, LANES // 2, 256)


def _avx2(code: Code, weights: Sequence[Value], tokens: Tokens, largest: int) -> list[Value]:
    if 2 * _LARGEST_BYTE * largest <= _LARGEST_SHORT:
        return _in_shorts(code, [_Plane(weights, 1)], tokens, largest)
    # A short does not hold the sum of two products: 16 times the upper half, and the lower half.
    lower = _Plane([moved_bits(code, weight, 4, 0, 0) for weight in weights], 1)
    upper = _Plane([moved_bits(code, weight, 4, 4, 0) for weight in weights], 16)
    answer = []
    for begin in range(0, len(tokens), 2):  # the sums of more do not fit into 16 registers
        pair = tokens[begin : begin + 2]
        answer += _in_shorts(code, [lower, upper], pair, _LARGEST_NIBBLE)
    return answer


class _Plane(NamedTuple):
    """Weights that small integers hold, and how often their products count."""

    weights: Sequence[Value]
    times: int


def _in_shorts(code: Code, planes: Sequence[_Plane], tokens: Tokens, largest: int) -> list[Value]:
    """Products summed up in shorts for as long as these hold them, then in integers."""
    together = _LARGEST_SHORT // (2 * _LARGEST_BYTE * largest)  # pairs that a short can hold
    pairs = ir.FunctionType(_SHORTS_16, [_BYTES_32, _BYTES_32])
    widen = ir.FunctionType(_INTS_8, [_SHORTS_16, _SHORTS_16])
    places = [(plane, half) for plane in planes for half in range(2)]
    totals = [[zeros(_INTS_8)] * 2 for _ in tokens]
    count = len(planes[0].weights)
    for begin in range(0, count, together):
        shorts = [[zeros(_SHORTS_16) for _ in places] for _ in tokens]
        for index in range(begin, min(begin + together, count)):
            ws = [code.part(plane.weights[index], 32 * half, 32) for plane, half in places]
            for token, total in zip(tokens, shorts, strict=True):
                x = code.bits(code.splat(_INTS_8, token[index]), _BYTES_32)
                for place, w in enumerate(ws):
                    product = code.external(pairs, "llvm.x86.avx2.pmadd.ub.sw", w, x)
                    total[place] = code.in_register(code.b.add(total[place], product))
        for total, parts in zip(totals, shorts, strict=True):
            for (plane, half), part in zip(places, parts, strict=True):
                factor = every(_SHORTS_16, plane.times)
                wide = code.external(widen, "llvm.x86.avx2.pmadd.wd", part, factor)
                total[half] = code.b.add(total[half], wide)
    return [code.joined(total) for total in totals]


def _one_by_one(way: Callable[[Code, Sequence[Value], Sequence[Value], int], Value]) -> _Way:
    """For a way that gains nothing from several tokens at once."""

    def dots_of(code: Code, weights: Sequence[Value], tokens: Tokens, largest: int) -> list[Value]:
        return [way(code, weights, quads, largest) for quads in tokens]

    return dots_of


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


_WAYS: Final[Mapping[IsaTier, _Way]] = {
    IsaTier.AVX512_VNNI: _avx512_vnni,
    IsaTier.AVX_VNNI: _avx_vnni,
    IsaTier.AVX2: _avx2,
    IsaTier.NEON_DOTPROD: _one_by_one(_neon_dotprod),
    IsaTier.PORTABLE: _one_by_one(_portable),
}
