"""Super-blocks of 256 numbers whose parts have quantised scales of their own.

Source: ggml-quants.c, ``dequantize_row_q*_K``.
"""

# B blocks; groups of 16 or 32 numbers share a scale

from __future__ import annotations

import numpy as np

from smallmind_engine.gguf.quants.fields import half, scaled, spread
from smallmind_engine.gguf.quants.quant_types import Bytes, Floats

_PAIRS = (0, 2, 4, 6)
_NIBBLES = (0, 4)
_BITS = tuple(range(8))


def _scales_and_offsets(packed: Bytes) -> tuple[Bytes, Bytes]:
    """12 bytes to 8 scales and 8 offsets of 6 bits: shapes (B, 8)."""
    first, second, upper = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    six, low, high = np.uint8(63), np.uint8(15), np.uint8(48)
    two, four = np.uint8(2), np.uint8(4)
    scales = np.concatenate((first & six, (upper & low) | ((first >> two) & high)), axis=1)
    offsets = np.concatenate((second & six, (upper >> four) | ((second >> two) & high)), axis=1)
    return scales, offsets


def _minus_offsets(offsets: Floats, out: Floats) -> None:
    n_blocks, groups = offsets.shape
    grouped = out.reshape(n_blocks, groups, -1)
    np.subtract(grouped, offsets[:, :, None], out=grouped)


def q2_k(blocks: Bytes, out: Floats) -> None:
    """16 scales and offsets of 4 bits, 256 numbers of 2 bits, f16 scale, f16 offset."""
    packed = blocks[:, :16]
    scaled(spread(blocks[:, 16:80], _PAIRS, 3, 32), half(blocks, 80) * (packed & np.uint8(15)), out)
    _minus_offsets(half(blocks, 82) * (packed >> np.uint8(4)), out)


def q3_k(blocks: Bytes, out: Floats) -> None:
    """256 third bits, 256 numbers of 2 bits, 16 scales of 6 bits around 32, f16 scale."""
    low = spread(blocks[:, 96:104], _NIBBLES, 15, 8)
    high = spread(blocks[:, 104:108], _PAIRS, 3, 4)
    scales = (low | (high << np.uint8(4))).view(np.int8) - np.int8(32)
    missing = spread(blocks[:, :32], _BITS, 1, 32) ^ np.uint8(1)
    quants = spread(blocks[:, 32:96], _PAIRS, 3, 32).view(np.int8)
    quants -= (missing << np.uint8(2)).view(np.int8)
    scaled(quants, half(blocks, 108) * scales, out)


def q4_k(blocks: Bytes, out: Floats) -> None:
    """f16 scale, f16 offset, 8 scales and offsets of 6 bits, 256 nibbles."""
    scales, offsets = _scales_and_offsets(blocks[:, 4:16])
    scaled(spread(blocks[:, 16:144], _NIBBLES, 15, 32), half(blocks, 0) * scales, out)
    _minus_offsets(half(blocks, 2) * offsets, out)


def q5_k(blocks: Bytes, out: Floats) -> None:
    """As Q4_K, with 256 fifth bits before the nibbles."""
    scales, offsets = _scales_and_offsets(blocks[:, 4:16])
    quants = spread(blocks[:, 16:48], _BITS, 1, 32)
    quants <<= np.uint8(4)
    quants |= spread(blocks[:, 48:176], _NIBBLES, 15, 32)
    scaled(quants, half(blocks, 0) * scales, out)
    _minus_offsets(half(blocks, 2) * offsets, out)


def q6_k(blocks: Bytes, out: Floats) -> None:
    """256 nibbles, 256 upper pairs of bits, 16 signed scales, f16 scale; around 32."""
    quants = spread(blocks[:, 128:192], _PAIRS, 3, 32)
    quants <<= np.uint8(4)
    quants |= spread(blocks[:, :128], _NIBBLES, 15, 64)
    signed = quants.view(np.int8)
    signed -= np.int8(32)
    scaled(signed, half(blocks, 208) * blocks[:, 192:208].view(np.int8), out)


def q8_k(blocks: Bytes, out: Floats) -> None:
    """f32 scale, 256 signed bytes, 16 sums (not needed here)."""
    scale = np.ascontiguousarray(blocks[:, :4]).view("<f4")
    np.multiply(blocks[:, 4:260].view(np.int8), scale, out=out)
