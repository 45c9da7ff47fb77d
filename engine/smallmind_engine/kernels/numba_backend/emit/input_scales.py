"""Where the factor and the sums of a token's block of codes are; see ``records.InputScale``."""

from __future__ import annotations

from smallmind_engine.kernels.numba_backend.emit.vector_ir import F32, Code, Value
from smallmind_engine.kernels.numba_backend.records import SCALE_FIELDS, InputScale


def load_scale(code: Code, scales: Value, at: Value, which: InputScale | int) -> Value:
    """One of the numbers that belong to block-and-token ``at``."""
    return code.load(F32, scale_place(code, scales, at, which), 4)


def scale_place(code: Code, scales: Value, at: Value, which: InputScale | int) -> Value:
    """Its address.

    Args:
        code: where instructions go.
        scales: address of all.
        at: the block's number times the tokens that there is room for, plus the token's.
        which: of the numbers.
    """
    return code.address(scales, code.times(at, 4 * SCALE_FIELDS), 4 * which)
