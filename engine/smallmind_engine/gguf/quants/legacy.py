"""Blocks of 32 numbers with one scale, and sometimes an offset.

Source: ggml-quants.c, ``dequantize_row_q*_0`` and ``dequantize_row_q*_1``.
"""

from __future__ import annotations

import numpy as np

from smallmind_engine.gguf.quants.fields import half
from smallmind_engine.gguf.quants.quant_types import Bytes, Floats

_HALF = 16


def _nibbles(packed: Bytes, out: Floats) -> None:
    """16 bytes to 32 numbers: all low nibbles, then all high ones."""
    np.copyto(out[:, :_HALF], packed & np.uint8(15))
    np.copyto(out[:, _HALF:], packed >> np.uint8(4))


def _with_fifth_bits(packed: Bytes, fifth: Bytes, out: Floats) -> None:
    bits = np.unpackbits(fifth, axis=1, bitorder="little")
    bits <<= np.uint8(4)
    np.copyto(out[:, :_HALF], (packed & np.uint8(15)) | bits[:, :_HALF])
    np.copyto(out[:, _HALF:], (packed >> np.uint8(4)) | bits[:, _HALF:])


def q4_0(blocks: Bytes, out: Floats) -> None:
    """f16 scale, 32 nibbles around 8."""
    _nibbles(blocks[:, 2:], out)
    np.subtract(out, np.float32(8), out=out)
    np.multiply(out, half(blocks, 0), out=out)


def q4_1(blocks: Bytes, out: Floats) -> None:
    """f16 scale, f16 offset, 32 nibbles."""
    _nibbles(blocks[:, 4:], out)
    np.multiply(out, half(blocks, 0), out=out)
    np.add(out, half(blocks, 2), out=out)


def q5_0(blocks: Bytes, out: Floats) -> None:
    """f16 scale, 32 fifth bits, 32 nibbles; around 16."""
    _with_fifth_bits(blocks[:, 6:], blocks[:, 2:6], out)
    np.subtract(out, np.float32(16), out=out)
    np.multiply(out, half(blocks, 0), out=out)


def q5_1(blocks: Bytes, out: Floats) -> None:
    """f16 scale, f16 offset, 32 fifth bits, 32 nibbles."""
    _with_fifth_bits(blocks[:, 8:], blocks[:, 4:8], out)
    np.multiply(out, half(blocks, 0), out=out)
    np.add(out, half(blocks, 2), out=out)


def q8_0(blocks: Bytes, out: Floats) -> None:
    """f16 scale, 32 signed bytes."""
    np.multiply(blocks[:, 2:].view(np.int8), half(blocks, 0), out=out)


def q8_1(blocks: Bytes, out: Floats) -> None:
    """f16 scale, f16 sum (not needed here), 32 signed bytes."""
    np.multiply(blocks[:, 4:].view(np.int8), half(blocks, 0), out=out)
