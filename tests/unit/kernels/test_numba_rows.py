"""Work on rows of activations: quantising, activations, soft caps, and the exponential below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("numba")

from numba import types

from compiled_kernels import Floats, address, c_function, zeros
from smallmind_engine.kernels.numba_backend.emit import math_ir, rows_ir
from smallmind_engine.kernels.numba_backend.emit.vector_ir import FLOATS, Code, Value, ir_function
from smallmind_engine.kernels.numba_backend.records import SCALE_FIELDS, InputScale

BLOCK = 32
SILU, GELU = 0, 1

Function = Callable[..., Any]


# -- the functions, compiled --------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantize() -> Function:
    body = rows_ir.quantize

    def call(row, first, end, stride, token, codes, scales):
        body(row, first, end, stride, token, codes, scales)

    return c_function(types.void(*[types.int64] * 7), call)


@pytest.fixture(scope="module")
def activate() -> Function:
    body = rows_ir.activate

    def call(kind, gate, up, out, count):
        body(kind, gate, up, out, count)

    return c_function(types.void(*[types.int64] * 5), call)


@pytest.fixture(scope="module")
def softcap() -> Function:
    body = rows_ir.softcap

    def call(values, count, cap):
        body(values, count, cap)

    return c_function(types.void(types.int64, types.int64, types.float32), call)


@pytest.fixture(scope="module")
def exp() -> Callable[[Floats], Floats]:
    def emit(code: Code, source: Value, out: Value, count: Value) -> None:
        with code.loop(0, count, 16) as index:
            at = code.times(index, 4)
            value = math_ir.exp(code, code.load(FLOATS, code.address(source, at), 4))
            code.store(value, code.address(out, at), 4)

    body = ir_function(emit, 3)

    def call(source, out, count):
        body(source, out, count)

    compiled = c_function(types.void(*[types.int64] * 3), call)

    def apply(x: Floats) -> Floats:
        out = np.empty_like(x)
        compiled(address(x), address(out), len(x))
        return out

    return apply


# -- quantising ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planes:
    codes: npt.NDArray[np.int8]
    scales: Floats

    @property
    def factors(self) -> Floats:
        return self.scales[..., InputScale.FACTOR]

    @property
    def sums(self) -> Floats:
        return self.scales[..., InputScale.SUM]

    @property
    def half_sums(self) -> Floats:
        return self.scales[..., InputScale.HALF_SUMS :]


def quantized(quantize: Function, row: Floats, *, stride: int = 1, token: int = 0) -> Planes:
    blocks = len(row) // BLOCK
    planes = empty_planes(blocks, stride)
    where = (address(planes.codes), address(planes.scales))
    quantize(address(row), 0, blocks, stride, token, *where)
    return planes


def empty_planes(blocks: int, stride: int) -> Planes:
    return Planes(
        codes=zeros((blocks, stride, BLOCK), np.int8),
        scales=zeros((blocks, stride, SCALE_FIELDS), np.float32),
    )


def normal(count: int, spread: float = 1.0) -> Floats:
    return np.random.default_rng(count).normal(0, spread, count).astype(np.float32)


def test_codes_are_within_half_a_step_of_the_numbers(quantize: Function) -> None:
    row = normal(32 * BLOCK, 3.0)
    planes = quantized(quantize, row)
    blocks = row.reshape(-1, BLOCK)
    got = planes.codes[:, 0] * planes.factors
    step = np.abs(blocks).max(1, keepdims=True) / 127.0
    assert (np.abs(got - blocks) <= step * 0.500001).all()


def test_the_largest_number_of_a_block_has_the_code_127(quantize: Function) -> None:
    row = normal(8 * BLOCK)
    codes = quantized(quantize, row).codes[:, 0]
    assert (np.abs(codes.astype(np.int32)).max(1) == 127).all()


def test_factors_are_the_largest_number_by_127(quantize: Function) -> None:
    row = normal(8 * BLOCK)
    expected = np.abs(row.reshape(-1, BLOCK)).max(1) / np.float32(127.0)
    np.testing.assert_array_equal(quantized(quantize, row).factors[:, 0], expected)


def test_ties_go_to_the_even_code(quantize: Function) -> None:
    row = np.zeros(BLOCK, np.float32)
    row[:6] = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5]
    codes = quantized(quantize, row).codes[0, 0]
    assert codes[:6].tolist() == [127, 0, 2, 2, 0, -2]


def test_sums_are_those_of_the_codes(quantize: Function) -> None:
    row = normal(8 * BLOCK)
    planes = quantized(quantize, row)
    halves = planes.codes[:, 0].reshape(-1, 2, 16).sum(-1, dtype=np.int32).astype(np.float32)
    expected = planes.factors * halves
    np.testing.assert_array_equal(planes.half_sums[:, 0], expected)
    np.testing.assert_array_equal(planes.sums[:, 0], expected[:, 0] + expected[:, 1])


def test_zeros_have_the_factor_zero(quantize: Function) -> None:
    planes = quantized(quantize, np.zeros(2 * BLOCK, np.float32))
    for plane in (planes.codes, planes.scales):
        assert not plane.any()


@pytest.mark.parametrize("scale", [1e-45, 1e-42, 1e-39, 1e-37, 1e-36, 1e-30])
def test_tiny_numbers_do_no_harm(quantize: Function, scale: float) -> None:
    """127 divided by the largest of them may be infinite."""
    row = np.linspace(-1, 1, BLOCK).astype(np.float32) * np.float32(scale)
    planes = quantized(quantize, row)
    got = planes.codes[0, 0] * planes.factors[0].astype(np.float64)
    assert np.abs(got - row).max() <= max(1.001 * scale / 254, 1e-36)
    expected = planes.codes[0, 0].sum(dtype=np.int32) * planes.factors[0]
    np.testing.assert_allclose(planes.sums[0], expected, rtol=1e-5, atol=1e-44)
    assert (np.abs(planes.codes.astype(np.int32)) <= 127).all()


@pytest.mark.parametrize("scale", [1e4, 1e30, 1e35])
def test_huge_numbers_stay_finite(quantize: Function, scale: float) -> None:
    row = np.linspace(-1, 1, BLOCK).astype(np.float32) * np.float32(scale)
    planes = quantized(quantize, row)
    np.testing.assert_allclose(planes.codes[0, 0] * planes.factors[0], row, atol=scale / 200)
    assert np.isfinite(planes.sums).all()


@pytest.mark.parametrize("odd", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_lost(quantize: Function, odd: float) -> None:
    row = normal(3 * BLOCK)
    row[BLOCK + 7] = odd
    planes = quantized(quantize, row)
    assert np.isfinite(planes.factors[:, 0]).tolist() == [True, False, True]


def test_only_the_blocks_of_a_token_are_written(quantize: Function) -> None:
    row = normal(4 * BLOCK)
    blocks, stride, token = 4, 8, 5
    whole = quantized(quantize, row)
    part = empty_planes(blocks, stride)
    quantize(address(row), 1, 3, stride, token, address(part.codes), address(part.scales))
    np.testing.assert_array_equal(part.codes[1:3, token], whole.codes[1:3, 0])
    np.testing.assert_array_equal(part.scales[1:3, token], whole.scales[1:3, 0])
    for plane in (part.codes, part.scales):
        plane[1:3, token] = 0
        assert not plane.any()


# -- activations --------------------------------------------------------------------------------


def silu(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return x / (1.0 + np.exp(-x))


def gelu(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


SWEEP = np.concatenate(
    [np.linspace(-30, 30, 4000), np.linspace(-1e-3, 1e-3, 96), [0.0, -0.0, 80.0, -80.0] * 4]
).astype(np.float32)


@pytest.mark.parametrize(("kind", "exact"), [(SILU, silu), (GELU, gelu)], ids=["silu", "gelu"])
@pytest.mark.parametrize("gated", [True, False])
def test_activations_are_those_of_double_precision(
    activate: Function, kind: int, exact: Function, *, gated: bool
) -> None:
    up = normal(len(SWEEP))
    out = np.empty_like(SWEEP)
    activate(kind, address(SWEEP), address(up) if gated else 0, address(out), len(SWEEP))
    expected = exact(SWEEP.astype(np.float64)) * (up if gated else 1.0)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-7)


def test_activations_may_be_put_where_they_came_from(activate: Function) -> None:
    apart, inplace = np.empty_like(SWEEP), SWEEP.copy()
    activate(SILU, address(SWEEP), 0, address(apart), len(SWEEP))
    activate(SILU, address(inplace), 0, address(inplace), len(SWEEP))
    np.testing.assert_array_equal(inplace, apart)


@pytest.mark.parametrize("kind", [SILU, GELU])
def test_activations_of_huge_numbers_are_finite(activate: Function, kind: int) -> None:
    x = np.array([1e30, -1e30, 1e10, -1e10, 1e4, -1e4, 100.0, -100.0] * 2, np.float32)
    out = np.empty_like(x)
    activate(kind, address(x), 0, address(out), len(x))
    np.testing.assert_allclose(out, np.maximum(x, 0.0), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("cap", [1.0, 30.0, 50.0])
def test_soft_caps_are_those_of_double_precision(softcap: Function, cap: float) -> None:
    values = np.linspace(-20 * cap, 20 * cap, 1600).astype(np.float32)
    expected = cap * np.tanh(values.astype(np.float64) / cap)
    softcap(address(values), len(values), cap)
    np.testing.assert_allclose(values, expected, atol=3e-7 * cap)


# -- the exponential ----------------------------------------------------------------------------


def test_exponentials_are_right_to_two_units_in_the_last_place(exp: Function) -> None:
    x = np.linspace(-86.9, 88.0, 200_000).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    error = np.abs(exp(x) - exact) / np.spacing(exact.astype(np.float32))
    assert error.max() <= 2.0


def test_exponentials_near_zero_are_right_and_exact_at_it(exp: Function) -> None:
    x = np.concatenate([np.linspace(-1, 1, 9984), [0.0, -0.0] * 8]).astype(np.float32)
    got = exp(x)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(got - exact) <= 2.0 * np.spacing(exact.astype(np.float32))).all()
    assert (got[-16:] == 1.0).all()


def test_exponentials_are_never_zero_nor_infinite(exp: Function) -> None:
    x = np.array([-np.inf, -1e30, -200.0, -88.0, 88.0, 89.0, 1e30, np.inf] * 2, np.float32)
    got = exp(x)
    assert np.isfinite(got).all()
    assert (got > 0).all()
    assert (got[:4] < 1.2 * np.exp(-87.0)).all()
    np.testing.assert_allclose(got[4:8], np.exp(88.0), rtol=1e-6)
