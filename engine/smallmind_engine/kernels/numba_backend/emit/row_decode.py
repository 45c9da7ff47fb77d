"""Reading rows back from packed weights: embeddings, where they are also the output matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llvmlite import ir

from smallmind_engine.kernels.numba_backend.emit.decode_ir import QUADS, load_bfloats, load_halves
from smallmind_engine.kernels.numba_backend.emit.matmul import PackedBlocks
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    F32,
    FLOATS,
    I32,
    INTS,
    LANES,
    Code,
    Fields,
    Value,
    kernel_of,
    number,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import Matrix, Pick
from smallmind_engine.kernels.packing import PackedLayout

_BLOCK: Final = 32


def _place(code: Code, pick: Fields) -> tuple[Value, Value]:
    """Group and lane of the row."""
    row = pick[Pick.ROW]
    lane = code.b.trunc(code.b.urem(row, number(LANES)), I32)
    return code.b.udiv(row, number(LANES)), lane


def packed_row(tier: IsaTier, layout: PackedLayout) -> Callable[[int, int], None]:
    """The function ``(address of a Matrix, address of a Pick)`` for integer weights.

    To be compiled by Numba.
    """

    def emit(code: Code, matrix: Value, pick: Value) -> None:
        b = code.b
        blocks = PackedBlocks(code, tier, layout, matrix)
        fields = Fields(code, pick)
        group, lane = _place(code, fields)
        out = fields[Pick.OUT]
        with code.loop(0, blocks.count) as index:
            block = blocks.at(group, index)
            base = code.address(out, code.times(index, 4 * _BLOCK))
            per_scale = QUADS // len(block.scales)
            for quad, vector in enumerate(block.codes):
                scale = block.scales[quad // per_scale]
                factor = b.extract_element(scale.factor, lane)
                offset = b.extract_element(scale.offset, lane)
                four = b.extract_element(code.bits(vector, INTS), lane)
                for byte in range(4):
                    shifted = b.lshr(four, ir.Constant(I32, 8 * byte))
                    value = b.uitofp(b.and_(shifted, ir.Constant(I32, 255)), F32)
                    place = code.address(base, 4 * (4 * quad + byte))
                    code.store(code.fma(value, factor, offset), place, 4)

    return kernel_of(emit)


def float_row(tier: IsaTier, kind: str) -> Callable[[int, int], None]:
    """The same for weights of type ``F32``, ``F16`` or ``BF16``."""
    size = 4 if kind == "F32" else 2

    def emit(code: Code, matrix: Value, pick: Value) -> None:
        b = code.b
        fields, record = Fields(code, pick), Fields(code, matrix)
        group, lane = _place(code, fields)
        columns, weights, out = record[Matrix.COLUMNS], record[Matrix.LOW], fields[Pick.OUT]
        first = b.mul(group, columns)
        with code.loop(0, columns) as column:
            address = code.address(weights, code.times(b.add(first, column), LANES * size))
            if kind == "F32":
                vector = code.load(FLOATS, address, LANES * size)
            elif kind == "F16":
                vector = load_halves(code, tier, address, LANES * size)
            else:
                vector = load_bfloats(code, address, LANES * size)
            value = b.extract_element(vector, lane)
            code.store(value, code.address(out, code.times(column, 4)), 4)

    return kernel_of(emit)
