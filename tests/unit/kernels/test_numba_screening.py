"""Bounds of outputs: above what they bound, the same on every tier and for one token or many."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from compiled_bounds import upper_bounds as bounds
from compiled_kernels import LANES, TIERS, Floats, Quantized, multiply, product, screener
from packed_weights import PackedMatrix, random_packed
from smallmind_engine.kernels.numba_backend.records import OUTLIERS
from smallmind_engine.kernels.packing import SPLIT_Q8_0

MOST = 33


def made(rows: int, columns: int, tokens: int, seed: int) -> tuple[PackedMatrix, Quantized]:
    matrix = random_packed(SPLIT_Q8_0, rows, columns, seed)
    inputs = np.random.default_rng(seed).normal(0, 1, (tokens, columns)).astype(np.float32)
    return matrix, Quantized.of(inputs)


def largest_of_groups(matrix: PackedMatrix, inputs: Quantized) -> Floats:
    outputs = multiply(product(TIERS[0], SPLIT_Q8_0), matrix, inputs)
    outputs[:, matrix.rows :] = -np.inf
    return outputs.reshape(len(outputs), -1, LANES).max(-1)


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 70),
    blocks=st.integers(1, 20),
    tokens=st.integers(1, MOST),
    seed=st.integers(0, 99),
)
def test_no_output_is_above_its_bound(rows: int, blocks: int, tokens: int, seed: int) -> None:
    matrix, inputs = made(rows, 32 * blocks, tokens, seed)
    above = bounds(screener(TIERS[0], several=True), matrix, inputs, tokens)
    assert (above >= largest_of_groups(matrix, inputs)).all()


def test_bounds_are_close_enough_to_be_of_use() -> None:
    matrix, inputs = made(64, 576, 8, 3)
    above = bounds(screener(TIERS[0], several=True), matrix, inputs, 8)
    outputs = multiply(product(TIERS[0], SPLIT_Q8_0), matrix, inputs)
    assert (above - largest_of_groups(matrix, inputs) < 2.0 * outputs.std(axis=1)[:, None]).all()


@pytest.mark.parametrize("tokens", [1, 2, 4, 5, MOST])
def test_a_token_has_the_same_bounds_alone_and_in_company_on_every_tier(tokens: int) -> None:
    matrix, inputs = made(37, 544, tokens, 5)
    expected = bounds(screener(TIERS[0], several=True), matrix, inputs, tokens)
    for tier in TIERS:
        together = bounds(screener(tier, several=True), matrix, inputs, tokens)
        np.testing.assert_array_equal(together, expected)
        for token in range(tokens):
            alone = _only(inputs, token)
            one = bounds(screener(tier, several=False), matrix, alone, 1)
            np.testing.assert_array_equal(one[0], expected[token])


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 70),
    blocks=st.integers(1, 20),
    tokens=st.integers(1, MOST),
    data=st.data(),
)
def test_bounds_with_inputs_taken_in_full_hold(
    rows: int, blocks: int, tokens: int, data: st.DataObject
) -> None:
    places = st.integers(0, 32 * blocks - 1)
    outliers = data.draw(st.lists(places, min_size=OUTLIERS, max_size=OUTLIERS, unique=True))
    matrix, inputs = made(rows, 32 * blocks, tokens, blocks)
    most = largest_of_groups(matrix, inputs)
    for tier in TIERS:
        above = bounds(screener(tier, several=True), matrix, inputs, tokens, outliers)
        assert (above >= most).all()
        for token in range(tokens):
            alone = _only(inputs, token)
            one = bounds(screener(tier, several=False), matrix, alone, 1, outliers)
            np.testing.assert_array_equal(one[0], above[token])


def test_taking_the_largest_inputs_in_full_makes_bounds_narrower() -> None:
    outliers = [17, 199, 322, 387]
    matrix = random_packed(SPLIT_Q8_0, 64, 576, 3)
    values = np.random.default_rng(3).normal(0, 1, (8, 576)).astype(np.float32)
    values[:, outliers] *= 30.0
    inputs = Quantized.of(values)
    most = largest_of_groups(matrix, inputs)
    screen = screener(TIERS[0], several=True)
    wide = bounds(screen, matrix, inputs, 8) - most
    narrow = bounds(screen, matrix, inputs, 8, outliers) - most
    assert (narrow >= 0.0).all()
    assert narrow.mean() < wide.mean() / 2


def _only(inputs: Quantized, token: int) -> Quantized:
    """The inputs of one token, with room behind it."""
    parts = {}
    for field in dataclasses.fields(inputs):
        part = getattr(inputs, field.name)
        if field.name == "values":
            parts[field.name] = part[token : token + 1]
            continue
        room = np.zeros_like(part)
        room[:, 0] = part[:, token]
        parts[field.name] = room
    return Quantized(**parts)
