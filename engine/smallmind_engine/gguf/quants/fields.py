"""Taking a block apart: byte fields, half-precision scales, packed bits."""

# B blocks

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from smallmind_engine.gguf.quants.quant_types import Bytes, Floats


def half(blocks: Bytes, at: int, count: int = 1) -> Floats:
    """``count`` half-precision numbers from byte ``at`` on: shape (B, count)."""
    raw = np.ascontiguousarray(blocks[:, at : at + 2 * count])
    return raw.view("<f2").astype(np.float32)


def words(blocks: Bytes, at: int, count: int, code: str) -> npt.NDArray[np.uint32]:
    """``count`` unsigned little-endian integers of the NumPy type ``code``: shape (B, count)."""
    size = np.dtype(code).itemsize
    raw = np.ascontiguousarray(blocks[:, at : at + size * count])
    return raw.view(code).astype(np.uint32)


def spread(packed: npt.NDArray[np.uint8], shifts: Sequence[int], mask: int, row: int) -> Bytes:
    """Unpack numbers of a few bits: first all of a row at the first shift, then the next.

    Args:
        packed: shape (B, P).
        shifts: where in a byte the numbers begin.
        mask: of the number's bits.
        row: bytes that are unpacked together; divides P.

    Returns:
        Shape (B, P * len(shifts)), uint8.
    """
    n_blocks = len(packed)
    rows = packed.reshape(n_blocks, -1, 1, row)
    numbers = np.right_shift(rows, np.asarray(shifts, np.uint8)[:, None])
    np.bitwise_and(numbers, np.uint8(mask), out=numbers)
    return numbers.reshape(n_blocks, -1)


def scaled(quants: npt.NDArray[np.integer], scales: Floats, out: Floats) -> None:
    """``out = quants * scales``, with one scale for each group of numbers.

    Args:
        quants: shape (B, N).
        scales: shape (B, G); G divides N.
        out: shape (B, N).
    """
    n_blocks, groups = scales.shape
    grouped = out.reshape(n_blocks, groups, -1)
    np.copyto(out, quants, casting="unsafe")
    np.multiply(grouped, scales[:, :, None], out=grouped)
