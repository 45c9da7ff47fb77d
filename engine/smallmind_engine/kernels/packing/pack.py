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
from smallmind_engine.kernels.packing.codes import Bytes, Codes, split_bytes, take_apart
from smallmind_engine.kernels.packing.layouts import (
    BLOCK,
    LAYOUTS,
    ROWS,
    PackedLayout,
    PackedPlanes,
    planes,
)
from smallmind_engine.kernels.spec import FloatArray

_TILE_BYTES: Final = 1 << 17  # with all that lies in between no more than a core's L2 cache
_LARGEST_HALF: Final = 65504.0


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
    step = max(ROWS, _TILE_BYTES // by_row.shape[1] // ROWS * ROWS)
    for begin in range(0, rows, step):
        limit.check("packing weights")
        end = min(begin + step, rows)
        tile = by_row[begin:end] if order is None else by_row[order[begin:end]]
        flat = tile.reshape(-1)
        if layout.is_float:
            _put_floats(flat, qtype, layout, end - begin, columns, out, begin)
        elif qtype.name == layout.source_type:
            _put(take_apart(flat, qtype, end - begin), layout, where, out, begin)
        else:
            values = dequantize(flat, qtype, (end - begin, columns))
            _put(_requantized(values), layout, where, out, begin)
        if on_bytes is not None:
            on_bytes(end * by_row.shape[1])


def _side_by_side(rows: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Groups of 16 rows whose items lie side by side: (G, ..., 16). The last is filled with zeros.

    A view where there are whole groups: what is written out is moved once only.
    """
    missing = -len(rows) % ROWS
    if missing:
        rows = np.concatenate((rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)))
    return np.moveaxis(rows.reshape(-1, ROWS, *rows.shape[1:]), 1, -1)


def _write(rows: npt.NDArray[np.generic], out: Bytes, plane: int, group: int) -> None:
    """Write the items of some rows that begin with a group into a plane."""
    items = _side_by_side(rows)
    begin = plane + group * (items[0].size * items.itemsize)
    target = out[begin : begin + items.nbytes].view(items.dtype)
    target.reshape(items.shape)[...] = items


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
    _write(items, out, 0, first_row // ROWS)


def _requantized(values: FloatArray) -> Codes:
    """Round numbers to bytes: the form of Q8_0, with the scale rounded first."""
    blocks = values.reshape(len(values), -1, BLOCK)
    largest = np.abs(blocks).max(axis=-1, keepdims=True)
    scales = np.minimum(largest / 127.0, _LARGEST_HALF).astype(np.float16)
    divisor = scales.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.where(divisor > 0.0, np.rint(blocks / divisor), 0.0)
    unsigned = (np.clip(codes, -127, 127) + LAYOUTS["Q8_0"].zero).astype(np.uint8)
    return Codes(unsigned.view(np.uint32), None, scales)


def _put(
    part: Codes, layout: PackedLayout, where: PackedPlanes, out: Bytes, first_row: int
) -> None:
    """Write the planes of some rows that begin at a multiple of 16."""
    group = first_row // ROWS
    if layout.split_from:
        part = split_bytes(part)
    _write(part.low, out, where.low, group)
    if part.high is not None:
        _write(part.high, out, where.high, group)
    _write(part.scales, out, where.scales, group)
    if part.supers is not None:
        _write(part.supers, out, where.supers, group)
