"""Sums of products of bytes: the same integers by every instruction, ARM's included.

Code for ARM runs here with its two instructions spelled out in plain arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("numba")

from llvmlite import ir
from numba import types

from compiled_kernels import TIERS, address, c_function, zeros
from smallmind_engine.kernels.numba_backend.emit import decode_ir
from smallmind_engine.kernels.numba_backend.emit.dot import dot
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    BYTES,
    I8,
    I32,
    Code,
    Value,
    every,
    ir_function,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.packing import IQ4_VALUES

ALL_TIERS = dict.fromkeys([*TIERS, IsaTier.NEON_DOTPROD])
VECTORS, ROWS = 8, 16


def _sdot(code: Code, total: Value, first: Value, second: Value) -> Value:
    """What the instruction does, in plain arithmetic. Source: Arm A64 ISA, SDOT (vector)."""
    wide = ir.VectorType(I32, 16)
    terms = code.b.mul(code.b.sext(first, wide), code.b.sext(second, wide))
    for index in range(4):
        lanes = ir.Constant(ir.VectorType(I32, 4), [4 * lane + index for lane in range(4)])
        picked = code.b.shuffle_vector(terms, ir.Constant(wide, ir.Undefined), lanes)
        total = code.b.add(total, picked)
    return total


def _tbl(code: Code, table: Value, index: Value) -> Value:
    """Likewise: TBL of one register; an index beyond it gives zero."""
    bytes_ = ir.VectorType(I8, 16)
    answer = ir.Constant(bytes_, None)
    for place in range(16):
        entry = code.splat(bytes_, code.b.extract_element(table, ir.Constant(I32, place)))
        here = code.b.icmp_unsigned("==", index, every(bytes_, place))
        answer = code.b.select(here, entry, answer)
    return answer


ARM_INSTRUCTIONS = {
    "llvm.aarch64.neon.sdot.v4i32.v16i8": _sdot,
    "llvm.aarch64.neon.tbl1.v16i8": _tbl,
}


@pytest.fixture(autouse=True)
def _arm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    external = Code.external

    def spelled_out(code: Code, kind: Any, called: str, *arguments: Value) -> Value:
        if called in ARM_INSTRUCTIONS:
            return ARM_INSTRUCTIONS[called](code, *arguments)
        return external(code, kind, called, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Code, "external", spelled_out)
        yield


def compiled(emit: Callable[[Code, Value, Value, Value], None]) -> Callable[..., Any]:
    body: Any = ir_function(emit, 3)

    def kernel(first: int, second: int, out: int) -> None:
        body(first, second, out)

    return c_function(types.void(types.int64, types.int64, types.int64), kernel)


def sums(
    tier: IsaTier, largest: int, weights: npt.NDArray[np.uint8], inputs: npt.NDArray[np.int8]
) -> list[npt.NDArray[np.int32]]:
    """For each case of weights (vectors, rows, 4) and inputs (vectors, 4)."""

    def emit(code: Code, weights: Value, inputs: Value, out: Value) -> None:
        vectors = [code.load(BYTES, code.address(weights, 64 * i), 64) for i in range(VECTORS)]
        quads = [code.load(I32, code.address(inputs, 4 * i), 4) for i in range(VECTORS)]
        code.store(dot(code, tier, vectors, quads, largest), out, 64)

    call = compiled(emit)
    answers = []
    for case, x in zip(weights, inputs, strict=True):
        aligned, out = zeros(case.shape, np.uint8), zeros(ROWS, np.int32)
        aligned[...] = case
        call(address(aligned), address(np.ascontiguousarray(x)), address(out))
        answers.append(out)
    return answers


def cases(largest: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
    """Random ones, and all of the largest with inputs at both ends."""
    rng = np.random.default_rng(largest)
    weights = rng.integers(0, largest + 1, (12, VECTORS, ROWS, 4), np.uint8)
    inputs = rng.integers(-127, 128, (12, VECTORS, 4), np.int8)
    weights[:4] = largest
    inputs[0], inputs[1] = 127, -127
    inputs[2, ::2], inputs[3, :, ::2] = -127, 127
    return weights, inputs


@pytest.mark.parametrize("largest", [15, 63, 255])
@pytest.mark.parametrize("tier", ALL_TIERS)
def test_sums_are_exact(tier: IsaTier, largest: int) -> None:
    weights, inputs = cases(largest)
    exact = np.einsum("nvrb,nvb->nr", weights.astype(np.int32), inputs.astype(np.int32))
    np.testing.assert_array_equal(sums(tier, largest, weights, inputs), exact)


@pytest.mark.parametrize("tier", ALL_TIERS)
def test_codes_of_a_table_are_looked_up(tier: IsaTier) -> None:
    def emit(code: Code, source: Value, _: Value, out: Value) -> None:
        found = decode_ir._looked_up(code, tier, code.load(BYTES, source, 64))
        code.store(found, out, 64)

    codes, out = zeros(64, np.uint8), zeros(64, np.uint8)
    codes[...] = np.random.default_rng(0).permutation(np.arange(64) % 16)
    compiled(emit)(address(codes), 0, address(out))
    np.testing.assert_array_equal(out.astype(np.int32) - 128, np.array(IQ4_VALUES)[codes])
