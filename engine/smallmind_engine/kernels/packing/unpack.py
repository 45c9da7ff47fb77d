"""Reading packed weights back as floats: what compiled kernels are tested against."""

# R rows, K columns, G groups of 16 rows, NB blocks of 32 columns

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.kernels.packing.codes import Bytes
from smallmind_engine.kernels.packing.layouts import (
    BLOCK,
    ROWS,
    SUPER_BLOCKS,
    PackedLayout,
    planes,
)
from smallmind_engine.kernels.spec import FloatArray

_QUADS: Final = 8
_VECTOR: Final = 64

IQ4_VALUES: Final = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What the codes of codebook layouts stand for. Source: ggml-common.h, ``kvalues_iq4nl``."""


def unpack_matrix(packed: Bytes, layout: PackedLayout, rows: int, columns: int) -> FloatArray:
    """A packed matrix as float32, shape (R, K).

    Args:
        packed: as ``pack_matrix`` has written it.
        layout: its layout.
        rows: R.
        columns: K.
    """
    where = planes(layout, rows, columns)
    groups = where.groups
    if layout.is_float:
        return _floats(packed, layout, groups, columns)[:rows]
    blocks = columns // BLOCK
    low = _fields(packed[where.low : where.high], layout.base_bits, groups, blocks)
    codes = low.astype(np.int32)
    if layout.high_bits:
        size = groups * blocks * layout.high_bits * _VECTOR
        plane = packed[where.high : where.high + size]
        codes |= (
            _fields(plane, layout.high_bits, groups, blocks).astype(np.int32) << layout.base_bits
        )
    by_row = codes.reshape(groups, blocks, _QUADS, ROWS, 4).transpose(0, 3, 1, 2, 4)
    codes = by_row.reshape(groups * ROWS, blocks, layout.halves, layout.sub_size)
    signed = np.array(IQ4_VALUES)[codes] if layout.codebook else codes - layout.zero
    scales = _scales(packed, layout, where.scales, where.supers, groups, blocks)
    values = signed.astype(np.float32) * scales[..., :1]
    if layout.has_min:
        values += scales[..., 1:]
    return values.reshape(groups * ROWS, columns)[:rows]


def _floats(packed: Bytes, layout: PackedLayout, groups: int, columns: int) -> FloatArray:
    size = groups * columns * ROWS * layout.item_bytes
    kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[layout.name]
    items = packed[:size].view(kind).reshape(groups, columns, ROWS).transpose(0, 2, 1)
    if layout.name == "BF16":
        items = (items.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return items.astype(np.float32).reshape(groups * ROWS, columns)


def _fields(plane: Bytes, bits: int, groups: int, blocks: int) -> npt.NDArray[np.uint8]:
    """The codes' bits of a plane: (G, NB, quads, 64)."""
    per_byte = 8 // bits
    vectors = plane.reshape(groups, blocks, _QUADS // per_byte, 1, _VECTOR)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    mask = np.uint8((1 << bits) - 1)
    return ((vectors >> shifts) & mask).reshape(groups, blocks, _QUADS, _VECTOR)


def _scales(
    packed: Bytes, layout: PackedLayout, begin: int, supers: int, groups: int, blocks: int
) -> FloatArray:
    """Factors and offsets: (rows, NB, halves, parts)."""
    kind, item = (np.dtype(np.int8), 1) if layout.is_super else (np.dtype("<f2"), 2)
    count = groups * blocks * layout.halves * layout.parts * ROWS
    lanes = packed[begin : begin + count * item].view(kind).astype(np.float32)
    values = lanes.reshape(groups, blocks, layout.halves, layout.parts, ROWS)
    if layout.is_super:
        whole = groups * (blocks // SUPER_BLOCKS) * layout.parts * ROWS
        factors = packed[supers : supers + 2 * whole].view("<f2").astype(np.float32)
        by_super = factors.reshape(groups, blocks // SUPER_BLOCKS, 1, layout.parts, ROWS)
        values = values * np.repeat(by_super, SUPER_BLOCKS, axis=1)
    return values.transpose(0, 4, 1, 2, 3).reshape(
        groups * ROWS, blocks, layout.halves, layout.parts
    )
