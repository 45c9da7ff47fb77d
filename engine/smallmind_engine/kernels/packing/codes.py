"""Taking blocks of GGUF types apart into codes and scales, without decoding them to floats.

Source of all layouts: ggml-quants.c and ggml-common.h of llama.cpp.
"""

# n rows, NB blocks of 32, SB super-blocks of 256

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.gguf import QuantType
from smallmind_engine.gguf.quants import LAYOUTS as GGUF_LAYOUTS

Bytes = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.float16]
Smalls = npt.NDArray[np.int8]

_LOW: Final = 15


@dataclass(frozen=True, slots=True)
class Codes:
    """Some rows of weights.

    Attributes:
        codes: uint8, n rows of NB * 32 codes.
        scales: (n, NB, halves, parts), float16, or int8 for types with super-blocks.
        supers: (n, SB, parts), float16; the offset's factor is negative as in the formula. None
            for types without super-blocks.
    """

    codes: Bytes
    scales: Halves | Smalls
    supers: Halves | None = None


def take_apart(data: Bytes, qtype: QuantType, rows: int) -> Codes:
    """Codes and scales of whole rows, in the little-endian form of the type."""
    layout = GGUF_LAYOUTS[qtype]
    return _READERS[qtype](data.reshape(rows, -1, layout.block_bytes))


def _halves(blocks: Bytes, begin: int, count: int) -> Halves:
    return np.ascontiguousarray(blocks[..., begin : begin + 2 * count]).view("<f2")


def _nibbles(packed: Bytes) -> Bytes:
    """16 bytes to 32 codes: lower nibbles first."""
    out = np.empty((*packed.shape[:-1], 32), np.uint8)
    np.bitwise_and(packed, _LOW, out=out[..., :16])
    np.right_shift(packed, 4, out=out[..., 16:])
    return out


def _flat(codes: Bytes) -> Bytes:
    return codes.reshape(len(codes), -1)


def _block_of_4(parts: int) -> Callable[[Bytes], Codes]:
    def read(blocks: Bytes) -> Codes:
        scales = _halves(blocks, 0, parts)[:, :, None, :]
        return Codes(_flat(_nibbles(blocks[..., 2 * parts :])), scales)

    return read


def _block_of_5(parts: int) -> Callable[[Bytes], Codes]:
    def read(blocks: Bytes) -> Codes:
        at = 2 * parts
        codes = _nibbles(blocks[..., at + 4 :])
        bits = np.unpackbits(
            np.ascontiguousarray(blocks[..., at : at + 4]), axis=-1, bitorder="little"
        )
        codes |= bits << np.uint8(4)
        return Codes(_flat(codes), _halves(blocks, 0, parts)[:, :, None, :])

    return read


def _q8_0(blocks: Bytes) -> Codes:
    # Adding 128 modulo 256 turns the sign bit round.
    codes = blocks[..., 2:] ^ np.uint8(128)
    return Codes(_flat(codes), _halves(blocks, 0, 1)[:, :, None, :])


def _k_scales(packed: Bytes) -> Smalls:
    """12 bytes to the factors and offsets of 8 sub-blocks, six bits each: (..., 8, 2)."""
    first, second, third = packed[..., :4], packed[..., 4:8], packed[..., 8:12]
    out = np.empty((*packed.shape[:-1], 8, 2), np.uint8)
    out[..., :4, 0] = first & 63
    out[..., :4, 1] = second & 63
    out[..., 4:, 0] = (third & _LOW) | ((first >> 6) << 4)
    out[..., 4:, 1] = (third >> 4) | ((second >> 6) << 4)
    return out.view(np.int8)


def _with_offset(blocks: Bytes, begin: int) -> Halves:
    """The factors of a super-block; that of the offset is subtracted in the file."""
    supers = _halves(blocks, begin, 2).copy()
    np.negative(supers[..., 1], out=supers[..., 1])
    return supers


def _by_block(scales: Smalls, halves: int, parts: int) -> Smalls:
    return scales.reshape(len(scales), -1, halves, parts)


def _pairs_of_32(packed: Bytes) -> Bytes:
    """Each 32 bytes to 64 codes: lower nibbles first."""
    quarters = packed.reshape(*packed.shape[:-1], -1, 32)
    return np.stack((quarters & _LOW, quarters >> 4), axis=-2)


def _q4_k(blocks: Bytes) -> Codes:
    scales = _k_scales(blocks[..., 4:16])
    codes = _pairs_of_32(blocks[..., 16:])
    return Codes(_flat(codes), _by_block(scales, 1, 2), _with_offset(blocks, 0))


def _q5_k(blocks: Bytes) -> Codes:
    scales = _k_scales(blocks[..., 4:16])
    codes = _pairs_of_32(blocks[..., 48:]).reshape(*blocks.shape[:-1], 8, 32)
    high = blocks[..., None, 16:48]
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    codes |= ((high >> shifts) & 1) << np.uint8(4)
    return Codes(_flat(codes), _by_block(scales, 1, 2), _with_offset(blocks, 0))


def _q6_k(blocks: Bytes) -> Codes:
    shape = blocks.shape[:-1]
    low = blocks[..., :128].reshape(*shape, 2, 1, 64)
    nibbles = np.concatenate((low & _LOW, low >> 4), axis=-2).reshape(*shape, 2, 4, 32)
    high = blocks[..., 128:192].reshape(*shape, 2, 1, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    codes = nibbles | (((high >> shifts) & 3) << np.uint8(4))
    scales = np.ascontiguousarray(blocks[..., 192:208]).view(np.int8)
    return Codes(_flat(codes), _by_block(scales, 2, 1), _halves(blocks, 208, 1))


def _two_bits(packed: Bytes) -> Bytes:
    """64 bytes to 256 codes: of each 32 bytes the lowest bits first."""
    halves = packed.reshape(*packed.shape[:-1], 2, 1, 32)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    codes: Bytes = (halves >> shifts) & np.uint8(3)
    return codes


def _q2_k(blocks: Bytes) -> Codes:
    packed = blocks[..., :16]
    scales = np.stack((packed & _LOW, packed >> 4), axis=-1).view(np.int8)
    codes = _two_bits(blocks[..., 16:80])
    return Codes(_flat(codes), _by_block(scales, 2, 2), _with_offset(blocks, 80))


def _q3_k(blocks: Bytes) -> Codes:
    shape = blocks.shape[:-1]
    low = _two_bits(blocks[..., 32:96]).reshape(*shape, 8, 32)
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    high = (blocks[..., None, :32] >> shifts) & np.uint8(1)
    packed = blocks[..., 96:108]
    nibbles = np.concatenate((packed[..., :8] & _LOW, packed[..., :8] >> 4), axis=-1)
    above = (packed[..., None, 8:] >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]) & 3
    scales = (nibbles | (above.reshape(*shape, 16) << np.uint8(4))).view(np.int8) - np.int8(32)
    codes = low | (high << np.uint8(2))
    return Codes(_flat(codes), _by_block(scales, 2, 1), _halves(blocks, 108, 1))


def _iq4_xs(blocks: Bytes) -> Codes:
    shape = blocks.shape[:-1]
    low = blocks[..., 4:8]
    nibbles = np.stack((low & _LOW, low >> 4), axis=-1).reshape(*shape, 8)
    high = np.ascontiguousarray(blocks[..., 2:4]).view("<u2")
    above = ((high >> np.arange(0, 16, 2, dtype=np.uint16)) & 3).astype(np.uint8)
    scales = (nibbles | (above << np.uint8(4))).view(np.int8) - np.int8(32)
    codes = _nibbles(blocks[..., 8:].reshape(*shape, 8, 16))
    return Codes(_flat(codes), _by_block(scales, 1, 1), _halves(blocks, 0, 1))


_READERS: Final[Mapping[QuantType, Callable[[Bytes], Codes]]] = {
    QuantType.Q4_0: _block_of_4(1),
    QuantType.Q4_1: _block_of_4(2),
    QuantType.Q5_0: _block_of_5(1),
    QuantType.Q5_1: _block_of_5(2),
    QuantType.Q8_0: _q8_0,
    QuantType.Q2_K: _q2_k,
    QuantType.Q3_K: _q3_k,
    QuantType.Q4_K: _q4_k,
    QuantType.Q5_K: _q5_k,
    QuantType.Q6_K: _q6_k,
    QuantType.IQ4_NL: _block_of_4(1),
    QuantType.IQ4_XS: _iq4_xs,
}
