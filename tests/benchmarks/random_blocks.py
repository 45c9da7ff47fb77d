"""Random quantised weights, written block by block as the formats lay them out.

They mean nothing, but they are finite, centred on zero and as large as trained weights are, so
that a model of them computes as any other does. Layouts: ``ggml-common.h`` of llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

WEIGHT_STD = 0.02
SCALE_SPREAD = (0.75, 1.25)


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """How the scales of random blocks are set.

    Attributes:
        scale_at: byte where the scale of the block stands, a half float.
        std_per_scale: standard deviation of the weights of a scale of one, when all other bytes
            of the block are random.
        minimum_per_scale: for types with a minimum, half floats behind the scale: the ratio that
            centres the weights on zero.
    """

    scale_at: int
    std_per_scale: float
    minimum_per_scale: float | None = None


def _std(*values: np.ndarray) -> float:
    """Of a product of independent, evenly drawn values."""
    return float(np.sqrt(np.prod([np.mean(np.square(each, dtype=float)) for each in values])))


_NIBBLES, _SIX_BITS, _BYTES = np.arange(16), np.arange(64), np.arange(-128, 128)
# scale * sub-scale * nibble - minimum * sub-minimum, where sub-scale and sub-minimum are drawn
# alike: minimum = mean of the nibbles * scale makes the mean zero.
_MEAN_NIBBLE = float(_NIBBLES.mean())
_Q4_K_STD = float(
    np.sqrt(
        _std(_SIX_BITS, _NIBBLES) ** 2
        + (_MEAN_NIBBLE * _std(_SIX_BITS)) ** 2
        - 2 * (_MEAN_NIBBLE * _SIX_BITS.mean()) ** 2
    )
)

FORMATS: dict[GGMLQuantizationType, BlockFormat] = {
    GGMLQuantizationType.Q4_0: BlockFormat(0, _std(_NIBBLES - 8)),
    GGMLQuantizationType.Q8_0: BlockFormat(0, _std(_BYTES)),
    GGMLQuantizationType.Q4_K: BlockFormat(0, _Q4_K_STD, _MEAN_NIBBLE),
    GGMLQuantizationType.Q6_K: BlockFormat(208, _std(_BYTES, _SIX_BITS - 32)),
}


def row_bytes(columns: int, qtype: GGMLQuantizationType) -> int:
    """Bytes of a row of a matrix."""
    block_weights, block_bytes = GGML_QUANT_SIZES[qtype]
    return columns // block_weights * block_bytes


def random_blocks(
    rng: np.random.Generator, rows: int, columns: int, qtype: GGMLQuantizationType
) -> np.ndarray:
    """A random matrix of that type, as it stands in a file: shape (rows, bytes of a row), uint8."""
    form = FORMATS[qtype]
    block_bytes = GGML_QUANT_SIZES[qtype][1]
    n_blocks = rows * row_bytes(columns, qtype) // block_bytes
    blocks = rng.integers(0, 256, (n_blocks, block_bytes), np.uint8)
    scales = rng.uniform(*SCALE_SPREAD, len(blocks)) * (WEIGHT_STD / form.std_per_scale)
    if form.minimum_per_scale is None:
        # Even where the numbers of a block lean to one side, the weights then do not.
        scales *= rng.choice((-1.0, 1.0), len(blocks))
    else:
        _put_half(blocks, form.scale_at + 2, scales * form.minimum_per_scale)
    _put_half(blocks, form.scale_at, scales)
    return blocks.reshape(rows, -1)


def _put_half(blocks: np.ndarray, at: int, values: np.ndarray) -> None:
    blocks[:, at : at + 2] = values.astype("<f2")[:, None].view(np.uint8)
