"""Addresses of arrays, as compiled code passes them on."""

from __future__ import annotations

from typing import Any

import numpy as np

from smallmind_engine.kernels.numba_backend.emit.compiled import inner


@inner
def address_of(array: Any) -> Any:
    """Where an array begins, as a signed 64-bit integer like all other numbers of a job."""
    return np.int64(array.ctypes.data)
