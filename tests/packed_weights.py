"""Random matrices of every GGUF type, as files hold them and as kernels read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smallmind_engine.gguf import LAYOUTS as GGUF_LAYOUTS
from smallmind_engine.gguf import QuantType, dequantize
from smallmind_engine.kernels.packing import (
    LAYOUTS,
    PackedLayout,
    layout_of,
    pack_matrix,
    planes,
    unpack_matrix,
)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SMALLEST, LARGEST = 1e-3, 1e3
"""Between these lies the largest weight of each random block."""

OWN = [qtype for qtype in QuantType if qtype.name in LAYOUTS]
"""The types that have a layout of their own."""

ALIGNMENT = 64


def random_matrix(rng: np.random.Generator, qtype: QuantType, rows: int, columns: int) -> Bytes:
    """The bytes of a matrix: random ones, but for blocks whose scale makes no sense."""
    layout = GGUF_LAYOUTS[qtype]
    wanted = rows * columns // layout.block_elements
    if layout.block_elements == 1:
        return _numbers(rng, qtype, wanted)
    found: list[Bytes] = []
    while sum(map(len, found)) < wanted:
        blocks = rng.integers(0, 256, (2 * wanted + 8, layout.block_bytes), np.uint8)
        with np.errstate(all="ignore"):
            count = len(blocks) * layout.block_elements
            values = dequantize(blocks.reshape(-1), qtype, (count,)).reshape(len(blocks), -1)
            largest = np.abs(values).max(axis=1)
        found.append(blocks[(largest > SMALLEST) & (largest < LARGEST)])
    return np.concatenate(found)[:wanted].reshape(-1)


def _numbers(rng: np.random.Generator, qtype: QuantType, count: int) -> Bytes:
    if qtype.name.startswith("I"):
        kind = np.dtype(qtype.name.lower().replace("i", "int"))
        return rng.integers(-100, 101, count).astype(kind).view(np.uint8)
    values = rng.normal(0.0, 1.0, count)
    if qtype is QuantType.BF16:
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    kind = {"F16": np.float16, "F32": np.float32, "F64": np.float64}[qtype.name]
    return values.astype(kind).view(np.uint8)


def aligned_bytes(count: int, fill: int = 0) -> Bytes:
    """Bytes that begin at a multiple of ``ALIGNMENT``."""
    room = np.full(count + ALIGNMENT, fill, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    return room[begin : begin + count]


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A matrix of R rows and K columns.

    Attributes:
        layout: how it is packed.
        rows: R.
        columns: K.
        packed: its planes, aligned.
        values: what they hold, shape (R, K).
    """

    layout: PackedLayout
    rows: int
    columns: int
    packed: Bytes
    values: Floats


def packed(
    data: Bytes, qtype: QuantType, rows: int, columns: int, layout: PackedLayout | None = None
) -> PackedMatrix:
    """Pack bytes of a file; into the layout of their type, if no other is asked for."""
    layout = layout or layout_of(qtype, columns)
    # What is there before is not zero, so that bytes left out would be seen.
    out = aligned_bytes(planes(layout, rows, columns).n_bytes, fill=255)
    pack_matrix(data, qtype, layout, rows, columns, out)
    return PackedMatrix(layout, rows, columns, out, unpack_matrix(out, layout, rows, columns))


def random_packed(layout: PackedLayout, rows: int, columns: int, seed: int = 0) -> PackedMatrix:
    """A packed random matrix."""
    qtype = QuantType[layout.source_type]
    data = random_matrix(np.random.default_rng(seed), qtype, rows, columns)
    return packed(data, qtype, rows, columns, layout)
