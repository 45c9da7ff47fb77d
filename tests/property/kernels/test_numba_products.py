"""Laws of products: right for all shapes, and the same bits on every tier and in every company."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from hypothesis import given, settings
from hypothesis import strategies as st

from compiled_kernels import TIERS, Floats, Quantized, multiply, product, read_row, row_reader
from packed_weights import PackedMatrix, random_packed
from smallmind_engine.gguf import LAYOUTS as GGUF_LAYOUTS
from smallmind_engine.gguf import QuantType
from smallmind_engine.kernels.packing import LAYOUTS, PackedLayout

layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
few = settings(derandomize=True, deadline=None, max_examples=10)
seeds = st.integers(0, 2**32 - 1)


def drawn(
    layout: PackedLayout, seed: int, rows: int, blocks: int, tokens: int
) -> tuple[PackedMatrix, Quantized | Floats]:
    """Float matrices are as wide as asked for, others as many blocks of their type."""
    width = GGUF_LAYOUTS[QuantType[layout.source_type]].block_elements
    matrix = random_packed(layout, rows, blocks * width, seed)
    inputs = np.random.default_rng(seed).normal(0, 2, (tokens, matrix.columns)).astype(np.float32)
    return matrix, inputs if layout.is_float else Quantized.of(inputs)


@layouts
@few
@given(
    seed=seeds,
    rows=st.integers(1, 70),
    blocks=st.integers(1, 19),
    tokens=st.integers(1, 20),
    tier=st.sampled_from(TIERS),
)
def test_products_are_those_of_double_precision_for_all_shapes(
    layout: PackedLayout, seed: int, rows: int, blocks: int, tokens: int, tier: str
) -> None:
    matrix, inputs = drawn(layout, seed, rows, blocks, tokens)
    x = inputs.values if isinstance(inputs, Quantized) else inputs.astype(np.float64)
    weights = matrix.values.astype(np.float64)
    out = multiply(product(tier, layout), matrix, inputs)
    allowed = 1e-5 * (np.abs(x) @ np.abs(weights).T) + 1e-30
    assert (np.abs(out[:, :rows] - x @ weights.T) <= allowed).all()


@layouts
@few
@given(seed=seeds, rows=st.integers(1, 40), blocks=st.integers(1, 9), tokens=st.integers(1, 140))
def test_tiers_agree_for_all_shapes(
    layout: PackedLayout, seed: int, rows: int, blocks: int, tokens: int
) -> None:
    matrix, inputs = drawn(layout, seed, rows, blocks, tokens)
    outs = [multiply(product(tier, layout), matrix, inputs).view(np.uint32) for tier in TIERS]
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])


@layouts
@few
@given(seed=seeds, begin=st.integers(0, 30), count=st.integers(1, 130))
def test_ranges_of_tokens_give_the_bits_of_the_whole(
    layout: PackedLayout, seed: int, begin: int, count: int
) -> None:
    matrix, inputs = drawn(layout, seed, 20, 2, begin + count)
    call = product(TIERS[0], layout)
    whole = multiply(call, matrix, inputs).view(np.uint32)
    part = multiply(call, matrix, inputs, tokens=(begin, begin + count)).view(np.uint32)
    np.testing.assert_array_equal(part[begin:], whole[begin:])


@layouts
@few
@given(seed=seeds, rows=st.integers(1, 70), blocks=st.integers(1, 5), at=st.floats(0, 0.999))
def test_each_row_is_read_back_as_it_was_packed(
    layout: PackedLayout, seed: int, rows: int, blocks: int, at: float
) -> None:
    matrix, _ = drawn(layout, seed, rows, blocks, 1)
    row = int(at * rows)
    got = read_row(row_reader(TIERS[0], layout), matrix, row)
    np.testing.assert_array_equal(got, matrix.values[row])
