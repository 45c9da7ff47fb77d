"""Sums of products of numbers with stored vectors, as attention makes of keys and of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from llvmlite import ir

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.emit.vector_ir import F32, FLOATS, I64, Code, Value
from smallmind_engine.kernels.numba_backend.isa import IsaTier

FACTORS: Final = 3
VECTORS: Final = 2
"""Factors, and vectors of 16 numbers that each of them is multiplied with."""

_HALF: Final = ir.VectorType(F32, 8)
_HALVES: Final = 2 * VECTORS
_SUMS: Final = FACTORS * _HALVES
_HALF_BYTES: Final = 16


def fits(tier: IsaTier, kind: KVType, rows: int) -> bool:
    """Whether ``HalfSums`` are the way for so many rows."""
    return tier in {IsaTier.AVX2, IsaTier.AVX_VNNI} and kind is KVType.F16 and rows == FACTORS


class Sums:
    """Some vectors of 16 sums for each of some numbers, which LLVM keeps in registers.

    Args:
        code: where instructions go.
        begin: values to begin with: for each number as many as there are vectors.
        load: reads a stored vector.
    """

    def __init__(
        self, code: Code, begin: Sequence[Sequence[Value]], load: Callable[[Value], Value]
    ) -> None:
        self._code, self._load = code, load
        self._slots = [[code.variable(value) for value in values] for values in begin]

    def add(self, factors: Sequence[Value], addresses: Sequence[Value]) -> None:
        """Add each factor times the vector at each address.

        Args:
            factors: floats.
            addresses: one for each vector.
        """
        code = self._code
        vectors = [self._load(address) for address in addresses]
        for factor, slots in zip(factors, self._slots, strict=True):
            spread = code.splat(FLOATS, factor)
            for slot, vector in zip(slots, vectors, strict=True):
                code.b.store(code.fma(spread, vector, code.b.load(slot)), slot)

    def vectors(self, factor: int) -> list[Value]:
        """The sums of a factor."""
        return [self._code.b.load(slot) for slot in self._slots[factor]]


class HalfSums:
    """``Sums`` of half-precision numbers, in all 16 registers of AVX2: see ``fits``.

    Six sums wait for each other: a multiplication with addition takes four cycles, and two begin
    in each. LLVM orders twelve so that it runs out of registers. Here one holds what is widened,
    three hold the factors, and twelve the sums.

    Args:
        code: where instructions go.
        begin: values to begin with, ``VECTORS`` for each factor.
    """

    def __init__(self, code: Code, begin: Sequence[Sequence[Value]]) -> None:
        self._code = code
        self._slots = [
            code.variable(code.part(vector, lane, _HALF.count))
            for vectors in begin
            for vector in vectors
            for lane in (0, _HALF.count)
        ]

    def add(self, factors: Sequence[Value], addresses: Sequence[Value]) -> None:
        """Add each factor times the 16 halves at each address."""
        b = self._code.b
        spread = [self._code.splat(_HALF, factor) for factor in factors]
        arguments = [*(b.load(slot) for slot in self._slots), *spread, *addresses]
        result = ir.LiteralStructType([_HALF] * (_SUMS + 1))
        kind = ir.FunctionType(result, [_HALF] * (_SUMS + FACTORS) + [I64] * VECTORS)
        added = b.asm(kind, _INSTRUCTIONS, _CONSTRAINTS, arguments, side_effect=True)
        for index, slot in enumerate(self._slots):
            b.store(b.extract_value(added, index), slot)

    def vectors(self, factor: int) -> list[Value]:
        """The sums of a factor."""
        first = factor * _HALVES
        halves = [self._code.b.load(slot) for slot in self._slots[first : first + _HALVES]]
        return [self._code.joined(halves[i : i + 2]) for i in range(0, _HALVES, 2)]


def _instructions() -> str:
    widened, first_factor, first_address = _SUMS, 2 * _SUMS + 1, 2 * _SUMS + 1 + FACTORS
    lines = []
    for half in range(_HALVES):
        address, place = first_address + half // 2, half % 2 * _HALF_BYTES
        lines.append(f"vcvtph2ps {place}(${address}), ${widened}")
        for factor in range(FACTORS):
            total = factor * _HALVES + half
            lines.append(f"vfmadd231ps ${widened}, ${first_factor + factor}, ${total}")
    return "\n".join(lines)


def _constraints() -> str:
    sums = ["=&x"] * _SUMS
    tied = [str(index) for index in range(_SUMS)]
    return ",".join([*sums, "=&x", *tied, *["x"] * FACTORS, *["r"] * VECTORS])


_INSTRUCTIONS: Final = _instructions()
_CONSTRAINTS: Final = _constraints()
