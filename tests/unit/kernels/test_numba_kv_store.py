"""Writing into a KV cache: NumPy's rounding to halves on every tier, and 8 bits with a factor."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from compiled_kernels import TIERS, Floats, store, writer
from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.isa import IsaTier

tiers = pytest.mark.parametrize("tier", TIERS)


def halves(tier: IsaTier, values: Floats) -> np.ndarray:
    return store(writer(tier, KVType.F16), values, np.float16)[0]


def bits(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16).view(np.uint16)


def around(values: Floats) -> Floats:
    """Each number with its neighbours."""
    return np.concatenate(
        [values, np.nextafter(values, np.float32(np.inf)), np.nextafter(values, np.float32(0))]
    )


ALL_HALVES = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
TIES = ((ALL_HALVES[1:].astype(np.float64) + ALL_HALVES[:-1]) / 2).astype(np.float32)
"""Between two halves; a float holds each exactly."""


@tiers
def test_every_half_is_stored_as_it_is(tier: IsaTier) -> None:
    values = np.concatenate([ALL_HALVES, -ALL_HALVES])
    np.testing.assert_array_equal(bits(halves(tier, values)), bits(values))


@tiers
@pytest.mark.parametrize("sign", [1, -1])
def test_ties_go_to_the_even_half_and_their_neighbours_do_not(tier: IsaTier, sign: int) -> None:
    values = around(TIES) * np.float32(sign)
    np.testing.assert_array_equal(bits(halves(tier, values)), bits(values))


@tiers
@pytest.mark.parametrize("spread", [1e-8, 1e-6, 1e-4, 1.0, 1e4])
def test_numbers_are_rounded_as_numpy_does_it(tier: IsaTier, spread: float) -> None:
    values = np.random.default_rng(1).normal(0, spread, 4096).astype(np.float32)
    np.testing.assert_array_equal(bits(halves(tier, values)), bits(values))


@tiers
@pytest.mark.parametrize("value", [65504.0, 65519.0, 65520.0, 7e4, 1e30, np.inf, -7e4, -np.inf])
def test_numbers_beyond_the_largest_half_are_the_same_on_every_tier(
    tier: IsaTier, value: float
) -> None:
    with np.errstate(over="ignore"):
        expected = bits(np.array([value], np.float32))
    np.testing.assert_array_equal(bits(halves(tier, np.array([value], np.float32))), expected)


@tiers
def test_what_is_no_number_stays_none(tier: IsaTier) -> None:
    assert np.isnan(halves(tier, np.array([np.nan], np.float32)))[0]


@tiers
def test_floats_are_stored_as_they_are(tier: IsaTier) -> None:
    values = np.array([1.5, -0.0, 1e-42, 3e38, np.inf], np.float32)
    got, _ = store(writer(tier, KVType.F32), values, np.float32)
    np.testing.assert_array_equal(got.view(np.uint32), values.view(np.uint32))


@tiers
def test_bytes_are_within_half_a_step(tier: IsaTier) -> None:
    values = np.random.default_rng(2).normal(0, 3, 80).astype(np.float32)
    got, factor = store(writer(tier, KVType.INT8), values, np.int8)
    assert factor == np.abs(values).max() / np.float32(127.0)
    assert np.abs(got).max() == 127
    assert np.abs(got * factor - values).max() <= factor * 0.500001


@tiers
@pytest.mark.parametrize("scale", [0.0, 1e-45, 1e-40, 1e-37, 1e30])
def test_bytes_of_tiny_and_huge_numbers_do_no_harm(tier: IsaTier, scale: float) -> None:
    values = np.linspace(-1, 1, 20).astype(np.float32) * np.float32(scale)
    got, factor = store(writer(tier, KVType.INT8), values, np.int8)
    assert np.isfinite(factor)
    assert np.abs(got * factor - values.astype(np.float64)).max() <= max(scale / 250, 1e-36)


@pytest.mark.parametrize("kind", KVType)
def test_items_go_where_the_step_puts_them(kind: KVType) -> None:
    """Keys of a position lie 16 items apart; what lies between is not touched."""
    item = {KVType.F32: np.float32, KVType.F16: np.float16, KVType.INT8: np.int8}[kind]
    values = np.random.default_rng(3).normal(0, 1, 20).astype(np.float32)
    dense, _ = store(writer(TIERS[0], kind), values, item)
    sparse, _ = store(writer(TIERS[0], kind), values, item, step=16)
    np.testing.assert_array_equal(sparse[::16], dense)
    assert np.count_nonzero(sparse) == np.count_nonzero(dense)
