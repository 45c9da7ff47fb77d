"""Kernels that reach a ceiling of the machine: reading memory, and multiplying bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from smallmind_engine.kernels.numba_backend.emit.dot import dot
from smallmind_engine.kernels.numba_backend.emit.step_arrays import ints_1
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
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
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import CeilingShape

_LARGEST = 15
"""Weights of four bits, the most common ones, have the shortest way."""


def read_all(table: int, _unused: int) -> Any:
    """Adds up the words of an array, told by its address and size; LLVM does it with vectors."""
    words = ints_1(table)
    total = np.int64(0)
    for word in words:
        total += word
    return total


def byte_products(tier: IsaTier) -> Callable[[int, int, int], int]:
    """The function ``(address of weights, address of inputs, steps)``; answers some sum."""

    def emit(code: Code, weights: Value, inputs: Value, steps: Value) -> Value:
        n_vectors, n_tokens = CeilingShape.VECTORS, CeilingShape.TOKENS
        quads = [
            [
                code.load(I32, code.address(inputs, 4 * (token * n_vectors + index)), 4)
                for index in range(n_vectors)
            ]
            for token in range(n_tokens)
        ]
        sums = [code.variable(zeros(INTS)) for _ in range(n_tokens)]
        with code.loop(0, steps) as step:
            block = code.b.urem(step, number(CeilingShape.BLOCKS))
            begin = code.address(weights, code.times(block, n_vectors * CeilingShape.VECTOR_BYTES))
            vectors = [
                code.load(
                    BYTES,
                    code.address(begin, CeilingShape.VECTOR_BYTES * index),
                    CeilingShape.VECTOR_BYTES,
                )
                for index in range(n_vectors)
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
