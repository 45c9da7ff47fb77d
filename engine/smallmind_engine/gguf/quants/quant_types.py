"""The types of tensors in GGUF files, by their number in the format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Decoder = Callable[[Bytes, Floats], None]
"""Decodes blocks, shape (B, block_bytes), into numbers, shape (B, block_elements)."""


class QuantType(IntEnum):
    """How a tensor's numbers are stored. Source: ggml.h, ``enum ggml_type``."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q8_1 = 9
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    Q8_K = 15
    IQ2_XXS = 16
    IQ2_XS = 17
    IQ3_XXS = 18
    IQ1_S = 19
    IQ4_NL = 20
    IQ3_S = 21
    IQ2_S = 22
    IQ4_XS = 23
    I8 = 24
    I16 = 25
    I32 = 26
    I64 = 27
    F64 = 28
    IQ1_M = 29
    BF16 = 30
    TQ1_0 = 34
    TQ2_0 = 35
    MXFP4 = 39
    NVFP4 = 40
    Q1_0 = 41
    Q2_0 = 42


@dataclass(frozen=True, slots=True)
class QuantLayout:
    """The block of a type.

    Attributes:
        block_elements: numbers in a block.
        block_bytes: its size.
        dequantize: decodes it.
        swapped: NumPy type of the block's fields in order, as ``(code, count)``, for files of the
            other byte order; empty when nothing is wider than a byte, None when ggml writes
            big-endian blocks in one way and reads them in another.
    """

    block_elements: int
    block_bytes: int
    dequantize: Decoder
    swapped: tuple[tuple[str, int], ...] | None = ()
