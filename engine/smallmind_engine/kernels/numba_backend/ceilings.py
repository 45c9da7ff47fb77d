"""The ceilings of compiled kernels: reading memory, and multiplying bytes in registers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.kernels.ceilings import (
    MEASURED,
    Ceilings,
    best_of_rounds,
    read_bytes_per_second,
    sgemm_flops_per_second,
)
from smallmind_engine.kernels.numba_backend.compile_cache import KernelSource, compile_kernels
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import CeilingShape

_READ: Final = "ceiling_read"
_DOT: Final = "ceiling_dot"

_STEPS: Final = 1_000_000
_STEPS_PORTABLE: Final = 50_000
_OPS_PER_STEP: Final = 2 * CeilingShape.TOKENS * CeilingShape.VECTORS * CeilingShape.VECTOR_BYTES


def machine_ceilings(tier: IsaTier, threads: int) -> Ceilings:
    """The ceilings for kernels of a tier; measured at the first call in the process."""
    return MEASURED.get(f"numba-{tier}", threads, lambda count: _measure(tier, count))


def _measure(tier: IsaTier, threads: int) -> Ceilings:
    kernels, _ = compile_kernels(ceiling_sources(tier), tier=tier)
    return Ceilings(
        threads,
        read_bytes_per_second(threads, partial(_read, kernels[_READ].call)),
        sgemm_flops_per_second(),
        byte_ops_per_second(tier, threads, kernels[_DOT].call),
    )


def ceiling_sources(tier: IsaTier) -> list[KernelSource]:
    """What is compiled to measure."""
    return [
        KernelSource(_READ, _read_all, returns=True),
        KernelSource(_DOT, partial(_byte_products, tier), arguments=3, returns=True),
    ]


def _read(read: Callable[..., int], words: npt.NDArray[np.int64]) -> int:
    table = np.array([words.ctypes.data, len(words)], np.int64)
    return read(table.ctypes.data, 0)


def _read_all() -> Callable[..., int]:
    from smallmind_engine.kernels.numba_backend.emit.ceiling_ir import read_all

    return read_all


def _byte_products(tier: IsaTier) -> Callable[..., int]:
    from smallmind_engine.kernels.numba_backend.emit.ceiling_ir import byte_products

    return byte_products(tier)


def byte_ops_per_second(tier: IsaTier, threads: int, multiply: Callable[..., int]) -> float:
    """How many operations on bytes threads do, with inputs that stay in the first cache."""
    steps = _STEPS_PORTABLE if tier is IsaTier.PORTABLE else _STEPS
    line = CeilingShape.VECTOR_BYTES
    weights = np.ones((CeilingShape.BLOCKS * CeilingShape.VECTORS + 1) * line, np.uint8)
    weights = weights[-weights.ctypes.data % line :]
    inputs = np.ones(CeilingShape.TOKENS * CeilingShape.VECTORS, np.int32)

    def work(count: int) -> None:
        multiply(weights.ctypes.data, inputs.ctypes.data, count)

    seconds = best_of_rounds(work, [steps] * threads, [1] * threads)
    return threads * steps * _OPS_PER_STEP / seconds
