"""Packing rows of GGUF types into the layouts of compiled kernels, a tile of rows at a time."""

# R rows, K columns, G groups of 16 rows, NB blocks of 32 columns

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.gguf import QuantType
from smallmind_engine.gguf.quants import dequantize
from smallmind_engine.kernels.packing.codes import Bytes, Codes, take_apart
from smallmind_engine.kernels.packing.layouts import (
    BLOCK,
    LAYOUTS,
    ROWS,
    PackedLayout,
    PackedPlanes,
    planes,
)
from smallmind_engine.kernels.spec import FloatArray

_TILE_CODES: Final = 1 << 19
_QUADS: Final = 8
_LARGEST_HALF: Final = 65504.0
_NIBBLES: Final = np.uint32(0x0F0F0F0F)
_PAIRS: Final = np.uint32(0x03030303)
_BITS: Final = np.uint32(0x01010101)


def pack_matrix(
    data: Bytes,
    qtype: QuantType,
    layout: PackedLayout,
    rows: int,
    columns: int,
    out: Bytes,
    *,
    order: npt.NDArray[np.int64] | None = None,
    limit: WorkLimit = NO_LIMIT,
    on_bytes: Callable[[int], None] | None = None,
) -> None:
    """Pack a matrix.

    Args:
        data: bytes of R rows, in the little-endian form of their type.
        qtype: their type.
        layout: as ``layout_of`` tells for the type.
        rows: R.
        columns: K.
        out: receives the planes; as many bytes as ``planes`` says.
        order: which row comes at each place; None for the same order.
        limit: stops between tiles.
        on_bytes: told of the bytes of ``data`` that are done.

    Raises:
        OperationCancelledError: ``limit`` was exceeded.
    """
    by_row = data.reshape(rows, -1)
    where = planes(layout, rows, columns)
    step = max(ROWS, _TILE_CODES // columns // ROWS * ROWS)
    for begin in range(0, rows, step):
        limit.check("packing weights")
        end = min(begin + step, rows)
        tile = by_row[begin:end] if order is None else by_row[order[begin:end]]
        flat = tile.reshape(-1)
        if layout.is_float:
            _put_floats(flat, qtype, layout, end - begin, columns, out, begin)
        elif qtype.name == layout.source_type:
            _put(take_apart(flat, qtype, end - begin), layout, columns, where, out, begin)
        else:
            values = dequantize(flat, qtype, (end - begin, columns))
            _put(_requantized(values), layout, columns, where, out, begin)
        if on_bytes is not None:
            on_bytes(end * by_row.shape[1])


def _filled(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Rows of zeros added up to a multiple of 16."""
    missing = -len(array) % ROWS
    if not missing:
        return array
    return np.concatenate((array, np.zeros((missing, *array.shape[1:]), array.dtype)))


def _put_floats(
    data: Bytes,
    qtype: QuantType,
    layout: PackedLayout,
    rows: int,
    columns: int,
    out: Bytes,
    first_row: int,
) -> None:
    items: npt.NDArray[np.generic]
    if layout.item_bytes == 2:
        items = data.view(np.uint16).reshape(rows, columns)
    else:
        items = dequantize(data, qtype, (rows, columns)).view(np.uint32)
    filled = _filled(items).reshape(-1, ROWS, columns)
    target = out.view(filled.dtype)
    begin = first_row * columns
    target[begin : begin + filled.size].reshape(-1, columns, ROWS)[...] = filled.transpose(0, 2, 1)


def _requantized(values: FloatArray) -> Codes:
    """Round numbers to bytes: the form of Q8_0, with the scale rounded first."""
    blocks = values.reshape(len(values), -1, BLOCK)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    scales = np.minimum(largest / 127.0, _LARGEST_HALF).astype(np.float16)
    divisor = scales.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(divisor > 0.0, np.rint(blocks / divisor), 0.0)
    unsigned = (np.clip(codes, -127, 127) + LAYOUTS["Q8_0"].zero).astype(np.uint8)
    return Codes(unsigned.reshape(len(values), -1), scales[..., None])


def _put(
    part: Codes,
    layout: PackedLayout,
    columns: int,
    where: PackedPlanes,
    out: Bytes,
    first_row: int,
) -> None:
    """Write the planes of some rows that begin at a multiple of 16."""
    blocks = columns // BLOCK
    group = first_row // ROWS
    codes = np.ascontiguousarray(_filled(part.codes)).view(np.uint32)
    groups = len(codes) // ROWS
    quads = np.ascontiguousarray(
        codes.reshape(groups, ROWS, blocks * _QUADS).transpose(0, 2, 1)
    ).reshape(groups, blocks, _QUADS, ROWS)
    words = out.view(np.uint32)

    def write(plane: int, values: npt.NDArray[np.uint32]) -> None:
        per_group = values[0].size
        begin = plane // 4 + group * per_group
        words[begin : begin + values.size] = values.reshape(-1)

    write(where.low, _low_bits(quads, layout.base_bits))
    if layout.high_bits:
        write(where.high, _high_bits(quads, layout))
    _write_lanes(part.scales, out, where.scales, group)
    if part.supers is not None:
        _write_lanes(part.supers, out, where.supers, group)


def _low_bits(quads: npt.NDArray[np.uint32], bits: int) -> npt.NDArray[np.uint32]:
    if bits == 8:
        return quads
    if bits == 4:
        low, high = quads[:, :, 0::2] & _NIBBLES, quads[:, :, 1::2] & _NIBBLES
        return low | (high << np.uint32(4))
    return _four_to_a_byte(quads & _PAIRS)


def _four_to_a_byte(quads: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    fours = quads.reshape(*quads.shape[:2], 2, 4, ROWS)
    shifts = np.arange(0, 8, 2, dtype=np.uint32)[:, None]
    joined: npt.NDArray[np.uint32] = np.bitwise_or.reduce(fours << shifts, axis=3)
    return joined


def _high_bits(quads: npt.NDArray[np.uint32], layout: PackedLayout) -> npt.NDArray[np.uint32]:
    above = quads >> np.uint32(layout.base_bits)
    if layout.high_bits == 4:
        return _low_bits(above, 4)
    if layout.high_bits == 2:
        return _four_to_a_byte(above & _PAIRS)
    shifts = np.arange(_QUADS, dtype=np.uint32)[:, None]
    joined: npt.NDArray[np.uint32] = np.bitwise_or.reduce((above & _BITS) << shifts, axis=2)
    return joined


def _write_lanes(values: npt.NDArray[np.generic], out: Bytes, plane: int, group: int) -> None:
    """Write numbers of rows so that those of 16 rows lie side by side."""
    filled = _filled(values)
    lanes = filled.reshape(len(filled) // ROWS, ROWS, -1).transpose(0, 2, 1)
    flat = np.ascontiguousarray(lanes).view(np.uint8).reshape(len(lanes), -1)
    begin = plane + group * flat.shape[1]
    out[begin : begin + flat.size] = flat.reshape(-1)
