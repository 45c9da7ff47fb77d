"""Products with packed weights: right, and the same on every tier and in every company."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from compiled_kernels import (
    TIERS,
    Floats,
    Quantized,
    matrix_record,
    multiply,
    picked_product,
    product,
    read_row,
)
from compiled_kernels import row_reader as reader
from packed_weights import PackedMatrix, packed, random_packed
from smallmind_engine.gguf import QuantType
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import Job, Matrix
from smallmind_engine.kernels.packing import (
    LAYOUTS,
    SPLIT_Q8_0,
    PackedLayout,
    unpack_matrix,
)

ROWS, COLUMNS, TOKENS = 37, 512, 130
ODD_WIDTH = 77

COUNTS = [1, 2, 3, 4, 5, 7, 64, 128, 129]
"""More than 128 take two calls."""

layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
tiers = pytest.mark.parametrize("tier", TIERS)


def matrix_of(layout: PackedLayout, rows: int = ROWS) -> PackedMatrix:
    return random_packed(layout, rows, ODD_WIDTH if layout.is_float else COLUMNS)


def inputs_for(matrix: PackedMatrix, tokens: int = TOKENS, seed: int = 5) -> Quantized | Floats:
    inputs = np.random.default_rng(seed).normal(0, 1, (tokens, matrix.columns)).astype(np.float32)
    return inputs if matrix.layout.is_float else Quantized.of(inputs)


def values_of(inputs: Quantized | Floats) -> np.ndarray:
    return inputs.values if isinstance(inputs, Quantized) else inputs.astype(np.float64)


def largest_error(out: Floats, matrix: PackedMatrix, inputs: Quantized | Floats) -> float:
    """Against double precision, in shares of what the terms of a sum amount to."""
    x, weights = values_of(inputs), matrix.values.astype(np.float64)
    error = np.abs(out[:, : matrix.rows] - x @ weights.T)
    return float((error / (np.abs(x) @ np.abs(weights).T + 1e-30)).max())


@layouts
def test_products_are_those_of_double_precision(layout: PackedLayout) -> None:
    matrix = matrix_of(layout)
    inputs = inputs_for(matrix)
    out = multiply(product(TIERS[0], layout), matrix, inputs)
    assert largest_error(out, matrix, inputs) < 1e-5


@layouts
def test_all_tiers_give_the_same_bits(layout: PackedLayout) -> None:
    matrix = matrix_of(layout)
    inputs = inputs_for(matrix)
    outs = [multiply(product(tier, layout), matrix, inputs).view(np.uint32) for tier in TIERS]
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])


@layouts
@pytest.mark.parametrize("tier", [TIERS[0], TIERS[-1]])
def test_a_token_has_the_same_bits_in_every_company(tier: IsaTier, layout: PackedLayout) -> None:
    matrix = matrix_of(layout)
    inputs = inputs_for(matrix)
    call = product(tier, layout)
    alone = np.stack([multiply(call, matrix, inputs, tokens=(t, t + 1))[t] for t in range(TOKENS)])
    for count in COUNTS:
        out = multiply(call, matrix, inputs, tokens=(0, count))
        np.testing.assert_array_equal(out[:count].view(np.uint32), alone[:count].view(np.uint32))
        out = multiply(call, matrix, inputs, tokens=(TOKENS - count, TOKENS))
        np.testing.assert_array_equal(out[-count:].view(np.uint32), alone[-count:].view(np.uint32))


@tiers
@given(st.lists(st.integers(0, TOKENS - 1), min_size=4, max_size=4))
@settings(deadline=None, max_examples=20)
def test_picked_tokens_have_the_same_bits_as_alone(tier: IsaTier, picked: list[int]) -> None:
    matrix = matrix_of(SPLIT_Q8_0)
    inputs = inputs_for(matrix)
    job = np.zeros(len(Job), np.int64)
    chosen = np.array(picked)
    job[Job.PICKED] = chosen.ctypes.data
    some = multiply(picked_product(tier), matrix, inputs, job=job)
    whole = multiply(product(tier, SPLIT_Q8_0), matrix, inputs)
    np.testing.assert_array_equal(some[:4].view(np.uint32), whole[picked].view(np.uint32))
    assert np.isnan(some[4:]).all()


@layouts
def test_only_the_tokens_and_groups_asked_for_are_written(layout: PackedLayout) -> None:
    matrix = matrix_of(layout, rows=64)
    inputs = inputs_for(matrix, tokens=12)
    call = product(TIERS[0], layout)
    whole = multiply(call, matrix, inputs)
    for tokens in ((4, 5), (4, 7), (0, 8), (8, 12)):
        out = multiply(call, matrix, inputs, groups=(1, 3), tokens=tokens)
        written = np.zeros(out.shape, bool)
        written[slice(*tokens), 16:48] = True
        np.testing.assert_array_equal(np.isnan(out), ~written)
        np.testing.assert_array_equal(out[written], whole[written])


@layouts
def test_rows_that_fill_up_the_last_group_give_zeros(layout: PackedLayout) -> None:
    matrix = matrix_of(layout, rows=5)
    out = multiply(product(TIERS[0], layout), matrix, inputs_for(matrix, tokens=6))
    np.testing.assert_array_equal(out[:, 5:], 0.0)


@tiers
@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_float_inputs_may_lie_apart(tier: IsaTier, tokens: int) -> None:
    matrix = matrix_of(LAYOUTS["F32"])
    inputs = inputs_for(matrix, tokens)
    room = np.full((tokens, matrix.columns + 19), np.nan, np.float32)
    room[:, : matrix.columns] = inputs
    call = product(tier, matrix.layout)
    apart = multiply(call, matrix, room[:, : matrix.columns])
    np.testing.assert_array_equal(apart, multiply(call, matrix, inputs))


# -- no sum runs over ---------------------------------------------------------------------------


def all_ones(qtype: QuantType) -> np.ndarray:
    """32 rows: of the largest code, of zeros, and of both in turn; 256 inputs."""
    name = qtype.name
    size = {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34, "IQ4_NL": 18}[name]
    parts = 2 if name.endswith("_1") else 1
    blocks = np.zeros((32, 8, size), np.uint8)
    # Of bytes the sign is turned when they are packed: 127 becomes 255, -128 becomes 0.
    low, high = (0x80, 0x7F) if name == "Q8_0" else (0x00, 0xFF)
    blocks[::2] = high
    blocks[1::2] = low
    blocks[8:16, :, 1::2] = low
    blocks[16:24, ::2] = high
    blocks[:, :, : 2 * parts] = np.frombuffer(np.float16([1.0] * parts).tobytes(), np.uint8)
    return blocks.reshape(-1)


EXTREMES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL"]


@tiers
@pytest.mark.parametrize("name", EXTREMES)
def test_the_largest_products_are_exact(tier: IsaTier, name: str) -> None:
    """Two products of bytes may be more than 16 bits hold; integers this small are exact."""
    matrix = packed(all_ones(QuantType[name]), QuantType[name], 32, 256)
    codes = np.full((6, 256), 127, np.int8)
    codes[1] = -127
    codes[2, ::2] = -127
    codes[3, ::4] = -127
    codes[4] = 0
    inputs = Quantized.of_codes(codes, np.ones((6, 8), np.float32))
    out = multiply(product(tier, matrix.layout), matrix, inputs)
    exact = codes.astype(np.int64) @ matrix.values.astype(np.int64).T
    np.testing.assert_array_equal(out, exact)


@tiers
@pytest.mark.parametrize("name", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "Q8_0_SPLIT"])
def test_planes_of_ones_are_right_with_the_largest_inputs(tier: IsaTier, name: str) -> None:
    matrix = random_packed(LAYOUTS[name], 16, 256)
    record = matrix_record(matrix)
    codes_end = int(record[Matrix.SCALES] - record[Matrix.LOW])
    matrix.packed[:codes_end] = 255
    decoded = unpack_matrix(matrix.packed, matrix.layout, 16, 256)
    full = dataclasses.replace(matrix, values=decoded)
    codes = np.full((2, 256), 127, np.int8)
    codes[1] = -127
    inputs = Quantized.of_codes(codes, np.ones((2, 8), np.float32))
    out = multiply(product(tier, matrix.layout), full, inputs)
    assert largest_error(out, full, inputs) < 1e-5


# -- reading rows back --------------------------------------------------------------------------


@layouts
@pytest.mark.parametrize("tier", [TIERS[0], TIERS[-1]])
def test_rows_are_read_back_bit_for_bit(tier: IsaTier, layout: PackedLayout) -> None:
    """Products of codes and factors fit a float, so that rounding once or twice is the same."""
    matrix = matrix_of(layout)
    call = reader(tier, layout)
    for row in (0, 1, 15, 16, 31, ROWS - 1):
        np.testing.assert_array_equal(read_row(call, matrix, row), matrix.values[row])


@pytest.mark.parametrize("name", ["IQ4_NL", "IQ4_XS"])
@tiers
def test_tables_are_read_alike_by_all_tiers(tier: IsaTier, name: str) -> None:
    matrix = random_packed(LAYOUTS[name], 16, 256)
    np.testing.assert_array_equal(
        read_row(reader(tier, matrix.layout), matrix, 7), matrix.values[7]
    )


@tiers
@pytest.mark.parametrize("name", ["F16", "BF16", "F32"])
def test_infinities_and_what_is_no_number_are_read_as_such(tier: IsaTier, name: str) -> None:
    values = np.array([[np.inf, -np.inf, np.nan, 65504.0, -0.0, 6e-8]], np.float32)
    data = {
        "F32": values,
        "F16": values.astype(np.float16),
        "BF16": (values.view(np.uint32) >> 16).astype(np.uint16),
    }[name]
    matrix = packed(data.view(np.uint8).reshape(-1), QuantType[name], 1, 6)
    got = read_row(reader(tier, matrix.layout), matrix, 0)
    np.testing.assert_array_equal(got, matrix.values[0])
    assert np.signbit(got[4])
