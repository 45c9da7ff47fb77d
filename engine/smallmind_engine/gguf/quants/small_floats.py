"""Types with a table of 16 values, or with two to four states, for each number.

Source: ggml-quants.c; OCP Microscaling Formats 1.0 for MXFP4's values and scale.
"""

from __future__ import annotations

import numpy as np

from smallmind_engine.gguf.quants.fields import half, scaled, spread, words
from smallmind_engine.gguf.quants.quant_types import Bytes, Floats

_NIBBLES = (0, 4)
_PAIRS = (0, 2, 4, 6)
_IQ4_VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8
)
_E2M1_DOUBLED = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)


def _e8m0_halves() -> Floats:
    """2 ** (x - 128) for each byte x, the two smallest as subnormals."""
    x = np.arange(256, dtype=np.uint32)
    bits = np.where(x < 2, np.uint32(0x00200000) << x, np.maximum(x, 1) - 1 << np.uint32(23))
    return bits.astype(np.uint32).view(np.float32)


def _ue4m3_halves() -> Floats:
    """Half of each unsigned 8-bit number of 4 exponent and 3 fraction bits."""
    x = np.arange(256)
    exponent, fraction = (x >> 3) & 15, (x & 7) / 8.0
    values = np.where(exponent == 0, fraction * 2.0**-6, (1.0 + fraction) * 2.0 ** (exponent - 7.0))
    return np.where((x == 0) | (x == 0x7F), 0.0, values * 0.5).astype(np.float32)


_E8M0 = _e8m0_halves()
_UE4M3 = _ue4m3_halves()


def iq4_nl(blocks: Bytes, out: Floats) -> None:
    """f16 scale, 32 indices into a table of 16 values."""
    np.multiply(_IQ4_VALUES[spread(blocks[:, 2:], _NIBBLES, 15, 16)], half(blocks, 0), out=out)


def iq4_xs(blocks: Bytes, out: Floats) -> None:
    """f16 scale, 8 scales of 6 bits around 32, 256 indices into the same table."""
    high = words(blocks, 2, 1, "<u2") >> np.arange(0, 16, 2, dtype=np.uint32) & np.uint32(3)
    low = (blocks[:, 4:8, None] >> np.array(_NIBBLES, np.uint8) & np.uint8(15)).reshape(-1, 8)
    scales = (low | (high << np.uint32(4)).astype(np.uint8)).view(np.int8) - np.int8(32)
    values = _IQ4_VALUES[spread(blocks[:, 8:136], _NIBBLES, 15, 16)]
    scaled(values, half(blocks, 0) * scales, out)


def mxfp4(blocks: Bytes, out: Floats) -> None:
    """8-bit exponent, 32 numbers of 1 sign, 2 exponent and 1 fraction bits."""
    values = _E2M1_DOUBLED[spread(blocks[:, 1:], _NIBBLES, 15, 16)]
    np.multiply(values, _E8M0[blocks[:, :1]], out=out)


def nvfp4(blocks: Bytes, out: Floats) -> None:
    """4 scales of 8 bits, each for 16 numbers as in MXFP4."""
    values = _E2M1_DOUBLED[spread(blocks[:, 4:], _NIBBLES, 15, 8)]
    scaled(values, _UE4M3[blocks[:, :4]], out)


def tq1_0(blocks: Bytes, out: Floats) -> None:
    """240 numbers of three states, five to a byte, 16 more, four to a byte; f16 scale."""
    powers = np.array([1, 3, 9, 27, 81], np.uint8)
    parts = []
    for begin, end, row, count in ((0, 32, 32, 5), (32, 48, 16, 5), (48, 52, 4, 4)):
        rows = blocks[:, begin:end].reshape(len(blocks), -1, 1, row)
        parts.append((rows * powers[:count, None]).reshape(len(blocks), -1))
    digits = (np.concatenate(parts, axis=1).astype(np.uint16) * np.uint16(3)) >> np.uint16(8)
    np.multiply(digits.astype(np.int8) - np.int8(1), half(blocks, 52), out=out)


def tq2_0(blocks: Bytes, out: Floats) -> None:
    """256 numbers of three states in 2 bits, f16 scale."""
    states = spread(blocks[:, :64], _PAIRS, 3, 32).view(np.int8) - np.int8(1)
    np.multiply(states, half(blocks, 64), out=out)


def q1_0(blocks: Bytes, out: Floats) -> None:
    """f16 scale, 128 signs of a bit: minus for 0, plus for 1."""
    signs = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").view(np.int8)
    signs <<= np.int8(1)
    signs -= np.int8(1)
    np.multiply(signs, half(blocks, 0), out=out)


def q2_0(blocks: Bytes, out: Floats) -> None:
    """f16 scale, 64 numbers of 2 bits around 1, four neighbours to a byte."""
    states = spread(blocks[:, 2:], _PAIRS, 3, 1).view(np.int8) - np.int8(1)
    np.multiply(states, half(blocks, 0), out=out)
