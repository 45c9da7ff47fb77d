"""Decoding whole tensors, in pieces that stay in the cache of a core."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.gguf.quants.layouts import LAYOUTS
from smallmind_engine.gguf.quants.quant_types import Bytes, Floats, QuantType
from smallmind_engine.telemetry.errors import (
    ConfigError,
    ModelFileError,
    UnsupportedModelError,
)
from smallmind_engine.telemetry.reasons import ReasonCode

_ELEMENTS_AT_ONCE: Final = 1 << 16


def dequantize(
    data: Bytes,
    qtype: QuantType,
    shape: tuple[int, ...],
    out: Floats | None = None,
    limit: WorkLimit = NO_LIMIT,
    *,
    big_endian: bool = False,
) -> Floats:
    """Numbers of a tensor as float32.

    Args:
        data: its bytes, one-dimensional.
        qtype: how they are stored.
        shape: of the result.
        out: receives it; float32, C-contiguous and of that shape.
        limit: stops the work.
        big_endian: whether the bytes are from a big-endian file.

    Returns:
        ``out``, or a new array.

    Raises:
        ModelFileError: the bytes are too many or too few for the shape.
        ConfigError: ``out`` cannot hold the result.
        UnsupportedModelError: the type has no big-endian form.
        OperationCancelledError: ``limit`` was exceeded.
    """
    layout = LAYOUTS[qtype]
    n_elements = math.prod(shape)
    n_blocks, rest = divmod(n_elements, layout.block_elements)
    if rest or n_blocks * layout.block_bytes != data.size:
        raise ModelFileError(
            ReasonCode.GGUF_TENSOR_SHAPE,
            f"{data.size} bytes of {qtype.name} do not make a tensor of the shape {shape}",
            shape=shape,
        )
    result = np.empty(shape, np.float32) if out is None else out
    if result.shape != shape or result.dtype != np.float32 or not result.flags.c_contiguous:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"out is {result.dtype} of shape {result.shape} and strides {result.strides}",
            hint=f"pass a C-contiguous float32 array of shape {shape}",
        )
    blocks = data.reshape(n_blocks, layout.block_bytes)
    numbers = result.reshape(n_blocks, layout.block_elements)
    step = max(1, _ELEMENTS_AT_ONCE // layout.block_elements)
    # Damaged files may hold any bits as scales: what overflows or is no number stays so.
    with np.errstate(all="ignore"):
        for begin in range(0, n_blocks, step):
            limit.check("dequantising")
            piece = blocks[begin : begin + step]
            if big_endian:
                piece = swap_bytes(piece, qtype).reshape(piece.shape)
            layout.dequantize(piece, numbers[begin : begin + step])
    return result


def swap_bytes(data: Bytes, qtype: QuantType) -> Bytes:
    """Bytes of a tensor in the other byte order: a copy, fields wider than a byte turned round.

    Raises:
        UnsupportedModelError: the type has no big-endian form.

    Source: gguf's gguf_convert_endian.py for Q4_0, Q8_0, Q4_K, Q6_K, MXFP4 and NVFP4; for the other
    types, the widths with which ggml-quants.c writes and reads the fields.
    """
    layout = LAYOUTS[qtype]
    if layout.swapped is None:
        raise UnsupportedModelError(
            ReasonCode.GGUF_TYPE_UNKNOWN,
            f"{qtype.name} has no agreed byte order in big-endian files",
            hint="convert the model to a little-endian file",
            value=qtype.name,
        )
    blocks = data.reshape(-1, layout.block_bytes).copy()
    at = 0
    for kind, count in layout.swapped:
        size = np.dtype(kind).itemsize * count
        field = np.ascontiguousarray(blocks[:, at : at + size]).view(kind)
        blocks[:, at : at + size] = field.byteswap().view(np.uint8)
        at += size
    return blocks.reshape(-1)
