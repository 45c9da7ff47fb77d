"""The ceilings of compiled kernels: reading memory, and multiplying bytes in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import types

from smallmind_engine.kernels.ceilings import (
    MEASURED,
    Ceilings,
    best_of_rounds,
    read_bytes_per_second,
    sgemm_flops_per_second,
)
from smallmind_engine.kernels.numba_backend.compile_cache import KernelSource, compile_kernels
from smallmind_engine.kernels.numba_backend.dot import dot
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.vector_ir import (
    BYTES,
    I32,
    I64,
    INTS,
    Code,
    Value,
    ir_function,
    number,
    zeros,
)

_READ: Final = "ceiling_read"
_DOT: Final = "ceiling_dot"

_VECTORS: Final = 8
"""Weights of a step, as many as a block of 32 columns has for 16 rows."""

_TOKENS: Final = 4
"""Products that use the same weights, as a kernel's tile has them."""

_BLOCKS: Final = 8
"""Blocks of weights that are gone through again and again; they stay in the first cache."""

_VECTOR_BYTES: Final = 64
_LARGEST: Final = 15
"""Weights of four bits, the most common ones, have the shortest way."""

_STEPS: Final = 1_000_000
_STEPS_PORTABLE: Final = 50_000
_OPS_PER_STEP: Final = 2 * _TOKENS * _VECTORS * _VECTOR_BYTES


def machine_ceilings(tier: IsaTier, threads: int) -> Ceilings:
    """The ceilings for kernels of a tier; measured at the first call in the process."""
    return MEASURED.get(f"numba-{tier}", threads, lambda count: _measure(tier, count))


def _measure(tier: IsaTier, threads: int) -> Ceilings:
    kernels, _ = compile_kernels(ceiling_sources(tier), tier=tier)
    read: Callable[[Any], int] = kernels[_READ].call
    return Ceilings(
        threads,
        read_bytes_per_second(threads, read),
        sgemm_flops_per_second(),
        byte_ops_per_second(tier, threads, kernels[_DOT].call),
    )


def ceiling_sources(tier: IsaTier) -> list[KernelSource]:
    """What is compiled to measure."""
    words = types.Array(types.int64, 1, "C")
    multiply = types.int64(types.int64, types.int64, types.int64)
    return [
        KernelSource(name=_READ, signature=types.int64(words), function=_read_all, kind="njit"),
        KernelSource(name=_DOT, signature=multiply, function=_byte_products(tier), kind="njit"),
    ]


def byte_ops_per_second(tier: IsaTier, threads: int, multiply: Callable[..., int]) -> float:
    """How many operations on bytes threads do, with inputs that stay in the first cache."""
    steps = _STEPS_PORTABLE if tier is IsaTier.PORTABLE else _STEPS
    weights = np.ones(_BLOCKS * _VECTORS * _VECTOR_BYTES + _VECTOR_BYTES, np.uint8)
    weights = weights[-weights.ctypes.data % _VECTOR_BYTES :]
    inputs = np.ones(_TOKENS * _VECTORS, np.int32)

    def work(count: int) -> None:
        multiply(weights.ctypes.data, inputs.ctypes.data, count)

    seconds = best_of_rounds(work, [steps] * threads, [1] * threads)
    return threads * steps * _OPS_PER_STEP / seconds


def _read_all(words: Any) -> Any:
    """Adds up, which LLVM does with vectors."""
    total = np.int64(0)
    for word in words:
        total += word
    return total


def _byte_products(tier: IsaTier) -> Callable[[int, int, int], int]:
    """The function ``(address of weights, address of inputs, steps)``; answers some sum."""

    def emit(code: Code, weights: Value, inputs: Value, steps: Value) -> Value:
        quads = [
            [
                code.load(I32, code.address(inputs, 4 * (token * _VECTORS + index)), 4)
                for index in range(_VECTORS)
            ]
            for token in range(_TOKENS)
        ]
        sums = [code.variable(zeros(INTS)) for _ in range(_TOKENS)]
        with code.loop(0, steps) as step:
            block = code.b.urem(step, number(_BLOCKS))
            begin = code.address(weights, code.times(block, _VECTORS * _VECTOR_BYTES))
            vectors = [
                code.load(BYTES, code.address(begin, _VECTOR_BYTES * index), _VECTOR_BYTES)
                for index in range(_VECTORS)
            ]
            for place, own in zip(sums, quads, strict=True):
                total = dot(code, tier, vectors, own, _LARGEST)
                code.b.store(code.b.add(code.b.load(place), total), place)
        answer = code.b.load(sums[0])
        for place in sums[1:]:
            answer = code.b.add(answer, code.b.load(place))
        first = code.b.extract_element(answer, ir.Constant(I32, 0))
        return code.b.sext(first, I64)

    body: Any = ir_function(emit, 3, types.int64)

    def kernel(weights: int, inputs: int, steps: int) -> int:
        answer: int = body(weights, inputs, steps)
        return answer

    return kernel
