"""Addresses of arrays and functions, as compiled code passes them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.vector_ir import I64, Code, Value, ir_function


@inner
def address_of(array: Any) -> Any:
    """Where an array begins, as a signed 64-bit integer like all other numbers of a job."""
    return np.int64(array.ctypes.data)


def _call(code: Code, function: Value, first: Value, second: Value) -> None:
    kind = ir.FunctionType(ir.VoidType(), [I64, I64])
    code.b.call(code.b.inttoptr(function, kind.as_pointer()), [first, second])


call_function: Any = ir_function(_call, 3)
"""``(address of a function, first, second)``: call it with two 64-bit integers."""
