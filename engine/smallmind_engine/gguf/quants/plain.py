"""Types whose block is a single number."""

from __future__ import annotations

import numpy as np

from smallmind_engine.gguf.quants.quant_types import Bytes, Decoder, Floats


def numbers(code: str) -> Decoder:
    """A decoder of numbers of the NumPy type ``code``."""

    def decode(blocks: Bytes, out: Floats) -> None:
        np.copyto(out, np.ascontiguousarray(blocks).view(code), casting="unsafe")

    return decode


def bfloat16(blocks: Bytes, out: Floats) -> None:
    """The upper half of a float32. Source: Intel's bfloat16 definition, 2018."""
    upper = np.ascontiguousarray(blocks).view("<u2")
    np.left_shift(upper, np.uint32(16), out=out.view(np.uint32), casting="unsafe", dtype=np.uint32)
