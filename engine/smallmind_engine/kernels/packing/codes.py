"""Taking blocks of GGUF types apart into the planes of packed weights, still row by row.

Codes are never spread to a byte each: bits change places inside of words of 64 bits, many words
at once. So files are packed at 1 to 4 GB/s.

Source of all block formats: ggml-quants.c and ggml-common.h of llama.cpp. Source of the exchange
of bits: Warren, "Hacker's Delight", section 7-3, transposing a bit matrix.
"""

# n rows, NB blocks of 32, SB super-blocks of 256

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.gguf import QuantType

Bytes = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.float16]
Smalls = npt.NDArray[np.int8]
Words = npt.NDArray[np.uint32]
Longs = npt.NDArray[np.uint64]

_LOW: Final = np.uint32(0x0F0F0F0F)
_TWO: Final = np.uint32(0x03030303)
_SIX: Final = np.uint32(0x3F3F3F3F)
_UPPER_TWO: Final = np.uint32(0x30303030)
_SIGNS: Final = np.uint64(0x8080808080808080)


@dataclass(frozen=True, slots=True)
class Codes:
    """Some rows of weights, as views whose first axis is the row.

    A word has four columns, one a byte; it is what a row gives to a vector of the packed form.

    Attributes:
        low: words of the low plane; all axes but the first together are the blocks, then the
            words of a block.
        high: likewise of the high plane; None for types without one.
        scales: all axes together (n, NB, halves, parts); float16, or int8 for types with
            super-blocks.
        supers: (n, SB, parts), float16; the offset's factor is negative as in the formula. None
            for types without super-blocks.
    """

    low: Words
    high: Words | None
    scales: Halves | Smalls
    supers: Halves | None = None


def take_apart(data: Bytes, qtype: QuantType, rows: int) -> Codes:
    """Planes of whole rows, from bytes in the little-endian form of the type."""
    form, read = _READERS[qtype]
    return read(data.view(form).reshape(rows, -1))


def split_bytes(codes: Codes) -> Codes:
    """Codes of a byte as two planes of their lower and of their upper halves.

    The memory of ``codes`` is used for that.
    """
    words = np.ascontiguousarray(codes.low)
    halves = _share_nibbles(words.view(np.uint64).reshape(len(words), -1, 4))
    return replace(codes, low=halves[..., 0], high=halves[..., 1])


# -- fields of blocks and bits of words -----------------------------------------------------------


def _form(**fields: str) -> np.dtype[np.void]:
    """A block; ``V`` marks fields that are copied as they are, so that each is one fast move."""
    return np.dtype(list(fields.items()))


def _longs(field: npt.NDArray[Any]) -> Longs:
    """A copy of a field of each block, in words of 64 bits: (n, blocks, words)."""
    return field.copy().view("<u8").reshape(*field.shape, -1)


def _words(field: npt.NDArray[Any]) -> list[Words]:
    """A field of each block, one array (n, blocks) for each of its words of 32 bits."""
    words = field.copy().view("<u4").reshape(*field.shape, -1)
    return [np.ascontiguousarray(words[..., index]) for index in range(words.shape[-1])]


def _halves(field: npt.NDArray[Any]) -> Halves:
    """A copy of a field of each block, in numbers: (n, blocks, numbers)."""
    return field.copy().view("<f2").reshape(*field.shape, -1)


def _columns(longs: Longs, count: int) -> Longs:
    """Neighbouring words apart: (count, n, blocks, words / count)."""
    return np.ascontiguousarray(np.moveaxis(longs.reshape(*longs.shape[:-1], -1, count), -1, 0))


def _swap_within(longs: Longs, distance: int, mask: int) -> None:
    """Exchange the bits of ``mask`` with those that lie ``distance`` above them."""
    moved = longs >> np.uint64(distance)
    moved ^= longs
    moved &= np.uint64(mask)
    longs ^= moved
    moved <<= np.uint64(distance)
    longs ^= moved


def _swap_between(first: Longs, second: Longs, distance: int, mask: int) -> None:
    """Exchange the bits of ``mask`` in ``second`` with those ``distance`` above in ``first``."""
    moved = first >> np.uint64(distance)
    moved ^= second
    moved &= np.uint64(mask)
    second ^= moved
    moved <<= np.uint64(distance)
    first ^= moved


def _share_nibbles(longs: Longs) -> Words:
    """Two words to one of their lower nibbles and one of their upper ones: (..., 2).

    The nibble of the second word comes above that of the first.
    """
    _swap_within(longs, 28, 0xF0F0F0F0)
    return longs.view(np.uint32).reshape(*longs.shape, 2)


def _four_bits(field: npt.NDArray[Any]) -> Words:
    """16 bytes, lower nibbles before upper ones, to the low plane: (n, blocks, 2, 2)."""
    return _share_nibbles(_longs(field)).swapaxes(-1, -2)


def _pairs_of_blocks(field: npt.NDArray[Any]) -> Words:
    """Each 32 bytes are two blocks, the lower nibbles the first: (n, SB, 4, 2, 4)."""
    words = _share_nibbles(_longs(field))
    return words.reshape(*field.shape, 4, 4, 2).swapaxes(-1, -2)


def _two_bits(field: npt.NDArray[Any]) -> Words:
    """Each 32 bytes are four blocks, lowest bits first: (n, SB, 2, 2, 2, 2).

    Among four neighbouring words the block, which is the place in the byte, and the vector, which
    is the word, change places.
    """
    pairs = _columns(_longs(field), 2)
    _swap_within(pairs, 30, 0xCCCCCCCC)
    _swap_between(pairs[0], pairs[1], 4, 0x0F0F0F0F0F0F0F0F)
    words = pairs.view(np.uint32).reshape(2, *field.shape, 2, 2, 2)
    return words.transpose(1, 2, 3, 0, 5, 4)


def _one_bit(field: npt.NDArray[Any]) -> Words:
    """Of 32 bytes each bit is a block's: (n, SB, 8).

    Among eight words the block, which is the bit, and the vector, which is the word, change
    places.
    """
    quarters = _columns(_longs(field), 4)
    _swap_within(quarters, 31, 0xAAAAAAAA)
    for step, distance, mask in ((1, 2, 0x3333333333333333), (2, 4, 0x0F0F0F0F0F0F0F0F)):
        by_step = quarters.reshape(-1, 2, step, *quarters.shape[1:])
        _swap_between(by_step[:, 0], by_step[:, 1], distance, mask)
    words = quarters.view(np.uint32).reshape(4, *field.shape, 2)
    return words.transpose(1, 2, 0, 3)


def _bits_of_32(field: npt.NDArray[Any]) -> Words:
    """Bit ``4 * vector + byte`` of a word becomes bit ``vector`` of the byte: (n, NB, 1)."""
    words = field.copy().view("<u4")
    padded = np.zeros(words.size + words.size % 2, np.uint32)
    padded[: words.size] = words.reshape(-1)
    longs = padded.view(np.uint64)
    for distance, mask in (
        (14, 0x0000CCCC0000CCCC),
        (7, 0x00AA00AA00AA00AA),
        (2, 0x0C0C0C0C0C0C0C0C),
        (1, 0x2222222222222222),
    ):
        _swap_within(longs, distance, mask)
    return padded[: words.size].reshape(*field.shape, 1)


# -- scales ---------------------------------------------------------------------------------------


def _k_scales(field: npt.NDArray[Any]) -> Smalls:
    """12 bytes to the factors and offsets of 8 blocks, six bits each: (n, SB, 2, 4, 2)."""
    first, second, third = _words(field)
    out = np.empty((2, 2, *field.shape), np.uint32)
    four, two = np.uint32(4), np.uint32(2)
    out[0, 0] = first & _SIX
    out[0, 1] = second & _SIX
    out[1, 0] = (third & _LOW) | ((first >> two) & _UPPER_TWO)
    out[1, 1] = ((third >> four) & _LOW) | ((second >> two) & _UPPER_TWO)
    return out.view(np.int8).reshape(*out.shape, 4).transpose(2, 3, 0, 4, 1)


def _q3_scales(field: npt.NDArray[Any]) -> Smalls:
    """12 bytes to 16 factors of six bits around 32: (n, SB, 4, 4)."""
    first, second, third = _words(field)
    out = np.empty((4, *field.shape), np.uint32)
    four = np.uint32(4)
    nibbles = (first & _LOW, second & _LOW, (first >> four) & _LOW, (second >> four) & _LOW)
    for index, low in enumerate(nibbles):
        out[index] = low | (((third >> np.uint32(2 * index)) & _TWO) << four)
    scales = out.view(np.int8) - np.int8(32)
    return np.moveaxis(scales.reshape(*out.shape, 4), 0, 2)


def _xs_scales(field: npt.NDArray[Any], high: npt.NDArray[np.uint16]) -> Smalls:
    """8 nibbles and 8 pairs of bits to 8 factors around 32: (n, SB, 8)."""
    low = field.copy().view(np.uint8).reshape(*high.shape, 4)
    nibbles = np.stack((low & np.uint8(15), low >> np.uint8(4)), axis=-1).reshape(*high.shape, 8)
    above = ((high[..., None] >> np.arange(0, 16, 2, dtype=np.uint16)) & 3).astype(np.uint8)
    scales: Smalls = (nibbles | (above << np.uint8(4))).view(np.int8) - np.int8(32)
    return scales


def _with_offset(field: npt.NDArray[Any]) -> Halves:
    """The factors of a super-block; that of the offset is subtracted in the file."""
    supers = _halves(field)
    np.negative(supers[..., 1], out=supers[..., 1])
    return supers


# -- types ----------------------------------------------------------------------------------------


def _block_of_4(blocks: npt.NDArray[np.void]) -> Codes:
    return Codes(_four_bits(blocks["codes"]), None, _halves(blocks["scales"]))


def _block_of_5(blocks: npt.NDArray[np.void]) -> Codes:
    scales = _halves(blocks["scales"])
    return Codes(_four_bits(blocks["codes"]), _bits_of_32(blocks["bits"]), scales)


def _q8_0(blocks: npt.NDArray[np.void]) -> Codes:
    # Adding 128 modulo 256 turns the sign bit round.
    codes = _longs(blocks["codes"])
    codes ^= _SIGNS
    return Codes(codes.view(np.uint32), None, _halves(blocks["scales"]))


def _q2_k(blocks: npt.NDArray[np.void]) -> Codes:
    packed = _longs(blocks["scales"])
    nibbles = np.stack((packed, packed >> np.uint64(4)))
    nibbles &= np.uint64(0x0F0F0F0F0F0F0F0F)
    scales = np.moveaxis(nibbles.view(np.int8), 0, -1)
    return Codes(_two_bits(blocks["codes"]), None, scales, _with_offset(blocks["supers"]))


def _q3_k(blocks: npt.NDArray[np.void]) -> Codes:
    low, high = _two_bits(blocks["codes"]), _one_bit(blocks["bits"])
    return Codes(low, high, _q3_scales(blocks["scales"]), _halves(blocks["supers"]))


def _q4_k(blocks: npt.NDArray[np.void]) -> Codes:
    scales, supers = _k_scales(blocks["scales"]), _with_offset(blocks["supers"])
    return Codes(_pairs_of_blocks(blocks["codes"]), None, scales, supers)


def _q5_k(blocks: npt.NDArray[np.void]) -> Codes:
    return replace(_q4_k(blocks), high=_one_bit(blocks["bits"]))


def _q6_k(blocks: npt.NDArray[np.void]) -> Codes:
    # Each 64 bytes are four blocks: 32 lower nibbles, 32 more, then the upper ones.
    words = _share_nibbles(_longs(blocks["codes"])).reshape(*blocks.shape, 2, 2, 4, 2)
    low = words.transpose(0, 1, 2, 5, 3, 4)
    scales = blocks["scales"].copy().view(np.int8).reshape(*blocks.shape, 16)
    return Codes(low, _two_bits(blocks["bits"]), scales, _halves(blocks["supers"]))


def _iq4_xs(blocks: npt.NDArray[np.void]) -> Codes:
    words = _share_nibbles(_longs(blocks["codes"])).reshape(*blocks.shape, 8, 2, 2)
    scales = _xs_scales(blocks["low"], blocks["high"])
    return Codes(words.swapaxes(-1, -2), None, scales, _halves(blocks["supers"]))


_Reader = Callable[[npt.NDArray[np.void]], Codes]

_READERS: Final[Mapping[QuantType, tuple[np.dtype[np.void], _Reader]]] = {
    QuantType.Q4_0: (_form(scales="V2", codes="V16"), _block_of_4),
    QuantType.Q4_1: (_form(scales="V4", codes="V16"), _block_of_4),
    QuantType.Q5_0: (_form(scales="V2", bits="V4", codes="V16"), _block_of_5),
    QuantType.Q5_1: (_form(scales="V4", bits="V4", codes="V16"), _block_of_5),
    QuantType.Q8_0: (_form(scales="V2", codes="V32"), _q8_0),
    QuantType.Q2_K: (_form(scales="V16", codes="V64", supers="V4"), _q2_k),
    QuantType.Q3_K: (_form(bits="V32", codes="V64", scales="V12", supers="V2"), _q3_k),
    QuantType.Q4_K: (_form(supers="V4", scales="V12", codes="V128"), _q4_k),
    QuantType.Q5_K: (_form(supers="V4", scales="V12", bits="V32", codes="V128"), _q5_k),
    QuantType.Q6_K: (_form(codes="V128", bits="V64", scales="V16", supers="V2"), _q6_k),
    QuantType.IQ4_NL: (_form(scales="V2", codes="V16"), _block_of_4),
    QuantType.IQ4_XS: (_form(supers="V2", high="<u2", low="V4", codes="V128"), _iq4_xs),
}
