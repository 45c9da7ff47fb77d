"""Types that store, for each run of 4 or 8 numbers, an index into a codebook, and signs.

Source: ggml-quants.c, ``dequantize_row_iq*``.
"""

# B blocks of 256 numbers

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smallmind_engine.gguf.quants.codebooks import codebook
from smallmind_engine.gguf.quants.fields import half, words
from smallmind_engine.gguf.quants.quant_types import Bytes, Floats

Indices = npt.NDArray[np.uint32]

_EIGHTH = np.float32(0.125)
_SIGNS: Floats = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), -1, 1
).astype(np.float32)
"""Eight signs for each byte."""


def _even_signs(index: Indices) -> Floats:
    """Eight signs from seven bits; the eighth makes the number of minuses even."""
    seven = index & np.uint32(127)
    parity = seven ^ seven >> np.uint32(4)
    parity ^= parity >> np.uint32(2)
    parity ^= parity >> np.uint32(1)
    return np.asarray(_SIGNS[seven | (parity & np.uint32(1)) << np.uint32(7)])


def _nibbles(packed: Bytes) -> Indices:
    """Low and high nibbles in turn: shape (B, 2 * P)."""
    both = packed[:, :, None] >> np.array([0, 4], np.uint8) & np.uint8(15)
    return both.reshape(len(packed), -1).astype(np.uint32)


def _combine(scales: Floats, values: Floats, signs: Floats, out: Floats) -> None:
    """``scales * values * signs``: scales (B, G), the others of as many numbers as ``out``."""
    n_blocks, groups = scales.shape
    grouped = out.reshape(n_blocks, groups, -1)
    np.multiply(values.reshape(grouped.shape), scales[:, :, None], out=grouped)
    np.multiply(out, signs.reshape(out.shape), out=out)


def iq2_xxs(blocks: Bytes, out: Floats) -> None:
    """f16 scale; for 32 numbers four indices of 8 bits, four signs of 7 and a scale of 4."""
    pairs = words(blocks, 2, 16, "<u4").reshape(len(blocks), 8, 2)
    packed = pairs[:, :, 1]
    scales = half(blocks, 0) * (np.float32(0.5) + (packed >> np.uint32(28)).astype(np.float32))
    index = np.ascontiguousarray(pairs[:, :, 0]).view(np.uint8)
    signs = packed[:, :, None] >> np.arange(0, 28, 7, dtype=np.uint32)
    _combine(scales * np.float32(0.25), codebook("iq2_xxs")[index], _even_signs(signs), out)


def iq2_xs(blocks: Bytes, out: Floats) -> None:
    """f16 scale; 32 indices of 9 bits with signs of 7; 16 scales of 4 bits."""
    packed = words(blocks, 2, 32, "<u2")
    scales = half(blocks, 0) * (np.float32(0.5) + _nibbles(blocks[:, 66:74]).astype(np.float32))
    values = codebook("iq2_xs")[packed & np.uint32(511)]
    _combine(scales * np.float32(0.25), values, _even_signs(packed >> np.uint32(9)), out)


def iq2_s(blocks: Bytes, out: Floats) -> None:
    """f16 scale; 32 indices of 8 bits, 32 bytes of signs, upper bits, 16 scales of 4 bits."""
    upper = (blocks[:, 66:74, None] >> np.array([0, 2, 4, 6], np.uint8) & np.uint8(3)).reshape(
        len(blocks), 32
    )
    index = blocks[:, 2:34] | upper.astype(np.uint32) << np.uint32(8)
    scales = half(blocks, 0) * (np.float32(0.5) + _nibbles(blocks[:, 74:82]).astype(np.float32))
    _combine(scales * np.float32(0.25), codebook("iq2_s")[index], _SIGNS[blocks[:, 34:66]], out)


def iq3_xxs(blocks: Bytes, out: Floats) -> None:
    """f16 scale; 64 indices of 8 bits; for 32 numbers four signs of 7 bits and a scale of 4."""
    packed = words(blocks, 66, 8, "<u4")
    scales = half(blocks, 0) * (np.float32(0.5) + (packed >> np.uint32(28)).astype(np.float32))
    signs = packed[:, :, None] >> np.arange(0, 28, 7, dtype=np.uint32)
    values = codebook("iq3_xxs")[blocks[:, 2:66]]
    _combine(scales * np.float32(0.5), values, _even_signs(signs), out)


def iq3_s(blocks: Bytes, out: Floats) -> None:
    """f16 scale; 64 indices of 8 bits, 64 ninth bits, 32 bytes of signs, 8 scales of 4 bits."""
    ninth = np.unpackbits(blocks[:, 66:74], axis=1, bitorder="little").astype(np.uint32)
    index = blocks[:, 2:66] | ninth << np.uint32(8)
    odd = np.uint32(1) + np.uint32(2) * _nibbles(blocks[:, 106:110])
    scales = half(blocks, 0) * odd.astype(np.float32)
    _combine(scales, codebook("iq3_s")[index], _SIGNS[blocks[:, 74:106]], out)


def _shifted(scales: Floats, index: Indices, down: npt.NDArray[np.bool_], out: Floats) -> None:
    """``scales * (codebook ± 1/8)``: scales (B, G), index (B, 32), down (B, D); G, D divide 32."""
    n_blocks = len(scales)
    values = codebook("iq1")[index].reshape(n_blocks, down.shape[1], -1)
    shift = np.where(down, -_EIGHTH, _EIGHTH)
    shifted = (values + shift[:, :, None]).reshape(n_blocks, scales.shape[1], -1)
    np.multiply(shifted, scales[:, :, None], out=out.reshape(shifted.shape))


def iq1_s(blocks: Bytes, out: Floats) -> None:
    """f16 scale; 32 indices of 8 bits; for 32 numbers upper bits, a scale of 3 and a direction."""
    packed = words(blocks, 34, 8, "<u2")
    odd = np.uint32(2) * (packed >> np.uint32(12) & np.uint32(7)) + np.uint32(1)
    upper = packed[:, :, None] >> np.arange(0, 12, 3, dtype=np.uint32) & np.uint32(7)
    index = blocks[:, 2:34] | upper.reshape(len(blocks), 32) << np.uint32(8)
    scales = half(blocks, 0) * odd.astype(np.float32)
    _shifted(scales, index, packed & np.uint32(0x8000) != 0, out)


def iq1_m(blocks: Bytes, out: Floats) -> None:
    """32 indices of 8 bits; upper bits, directions; 16 scales of 3 bits, an f16 in the rest."""
    packed = words(blocks, 48, 4, "<u2")
    top = packed >> np.uint32(12)
    bits = np.bitwise_or.reduce(top << np.arange(0, 16, 4, dtype=np.uint32), axis=1)
    scale = bits.astype(np.uint16).view(np.float16).astype(np.float32)[:, None]
    small = packed[:, :, None] >> np.arange(0, 12, 3, dtype=np.uint32) & np.uint32(7)
    odd = np.uint32(2) * small.reshape(len(blocks), 16) + np.uint32(1)
    halves = _nibbles(blocks[:, 32:48])
    index = blocks[:, :32] | (halves & np.uint32(7)) << np.uint32(8)
    _shifted(scale * odd.astype(np.float32), index, halves & np.uint32(8) != 0, out)
