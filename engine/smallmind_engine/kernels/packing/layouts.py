"""The forms in which compiled kernels take weights: 16 rows side by side, block by block.

A matrix of R rows and K columns has G = ceil(R / 16) groups of rows and, where weights are
integers, NB = K / 32 blocks of columns. Four neighbouring columns of 16 rows make a vector of 64
bytes: byte ``4 * row + i``. Rows that fill up the last group are zeros.

Integer weights lie in up to four planes, one after the other:

* low: the lower bits of the codes, ``[G][NB][vectors][64]``. With 8 bits vector v has columns 4v
  to 4v+3; with 4 bits the lower nibbles are those of vector 2v and the upper of 2v+1; with 2 bits
  a byte has the vectors 4v to 4v+3, lowest first.
* high: the other bits. One bit: ``[G][NB][64]``, bit v of a byte is of vector v. Two or four
  bits: as low.
* scales: ``[G][NB][halves][1 or 2][16]``, the factor and, where there is one, the offset of 16
  rows; float16, or int8 where a super-block of 256 columns has a factor of its own.
* supers: ``[G][NB / 8][1 or 2][16]`` float16, where there are such.

A weight is ``factor * (code - zero) + offset``. Float weights lie ``[G][K][16]``.
"""

# G groups, NB blocks, R rows, K columns

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from smallmind_engine.gguf import QuantType

ROWS: Final = 16
BLOCK: Final = 32
SUPER_BLOCKS: Final = 8
_HALF_BYTES: Final = 2
_ALIGNMENT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedLayout:
    """How a type of weights is packed.

    Attributes:
        name: of the GGUF type that it comes from without loss.
        base_bits: bits of a code in the low plane: 8, 4 or 2; 0 for floats.
        high_bits: bits in the high plane: 0, 1, 2 or 4.
        zero: code of the weight zero, where there is no offset.
        has_min: whether there is an offset.
        sub_size: columns that share a factor: 32 or 16.
        is_super: whether factors are int8, with a float16 factor for 256 columns.
        codebook: whether codes are indices into the table of IQ4_NL.
        item_bytes: size of a float weight; 0 for integers.
        split_from: name of the GGUF type whose codes it takes apart further; empty for the name.
    """

    name: str
    base_bits: int = 0
    high_bits: int = 0
    zero: int = 0
    has_min: bool = False
    sub_size: int = BLOCK
    is_super: bool = False
    codebook: bool = False
    item_bytes: int = 0
    split_from: str = ""

    @property
    def source_type(self) -> str:
        """Name of the GGUF type that it holds without loss."""
        return self.split_from or self.name

    @property
    def is_float(self) -> bool:
        """Whether weights are floats, which take inputs that are not quantised."""
        return self.item_bytes > 0

    @property
    def parts(self) -> int:
        """Numbers of a scale: factor, and offset if there is one."""
        return 2 if self.has_min else 1

    @property
    def halves(self) -> int:
        """Scales of a row in a block."""
        return BLOCK // self.sub_size


SPLIT_Q8_0: Final = PackedLayout(
    name="Q8_0_SPLIT", base_bits=4, high_bits=4, zero=128, split_from="Q8_0"
)
"""Q8_0 with the upper and lower halves of its codes apart: the upper ones tell already which rows
may be the largest. For output matrices."""

_ALL: Final = (
    PackedLayout(name="F32", item_bytes=4),
    PackedLayout(name="F16", item_bytes=2),
    PackedLayout(name="BF16", item_bytes=2),
    PackedLayout(name="Q4_0", base_bits=4, zero=8),
    PackedLayout(name="Q4_1", base_bits=4, has_min=True),
    PackedLayout(name="Q5_0", base_bits=4, high_bits=1, zero=16),
    PackedLayout(name="Q5_1", base_bits=4, high_bits=1, has_min=True),
    PackedLayout(name="Q8_0", base_bits=8, zero=128),
    PackedLayout(name="Q2_K", base_bits=2, has_min=True, sub_size=16, is_super=True),
    PackedLayout(name="Q3_K", base_bits=2, high_bits=1, zero=4, sub_size=16, is_super=True),
    PackedLayout(name="Q4_K", base_bits=4, has_min=True, is_super=True),
    PackedLayout(name="Q5_K", base_bits=4, high_bits=1, has_min=True, is_super=True),
    PackedLayout(name="Q6_K", base_bits=4, high_bits=2, zero=32, sub_size=16, is_super=True),
    PackedLayout(name="IQ4_NL", base_bits=4, codebook=True),
    PackedLayout(name="IQ4_XS", base_bits=4, codebook=True, is_super=True),
    SPLIT_Q8_0,
)

LAYOUTS: Final[Mapping[str, PackedLayout]] = {layout.name: layout for layout in _ALL}

_PLAIN: Final = frozenset({"F64", "I8", "I16", "I32", "I64"})


def layout_of(qtype: QuantType, columns: int) -> PackedLayout:
    """The layout that weights of a GGUF type are packed into.

    Types without a layout of their own become ``Q8_0``, the nearest that has as many bits or
    more, or ``F32`` where they are plain numbers or rows are no whole number of blocks.
    """
    own = LAYOUTS.get(qtype.name)
    if own is not None:
        return own
    if qtype.name in _PLAIN or columns % BLOCK:
        return LAYOUTS["F32"]
    return LAYOUTS["Q8_0"]


@dataclass(frozen=True, slots=True)
class PackedPlanes:
    """Where the planes of a matrix begin, in bytes, and how large it is in all."""

    groups: int
    low: int
    high: int
    scales: int
    supers: int
    n_bytes: int


def planes(layout: PackedLayout, rows: int, columns: int) -> PackedPlanes:
    """The places of the planes of a matrix."""
    groups = -(-rows // ROWS)
    if layout.is_float:
        size = groups * columns * ROWS * layout.item_bytes
        return PackedPlanes(groups, 0, size, size, size, _aligned(size))
    blocks = groups * (columns // BLOCK)
    high = blocks * layout.base_bits * _ALIGNMENT
    scales = high + blocks * layout.high_bits * _ALIGNMENT
    lanes = ROWS * layout.parts
    item = 1 if layout.is_super else _HALF_BYTES
    supers = _aligned(scales + blocks * layout.halves * lanes * item)
    size = supers
    if layout.is_super:
        size += blocks // SUPER_BLOCKS * lanes * _HALF_BYTES
    return PackedPlanes(groups, 0, high, scales, supers, _aligned(size))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
