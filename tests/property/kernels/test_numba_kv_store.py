"""Laws of writing into a cache: halves as NumPy rounds them, on the tier without an instruction."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from hypothesis import given
from hypothesis import strategies as st

from compiled_kernels import TIERS, store, writer
from smallmind_engine.cache import KVType


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200))
def test_any_float_becomes_the_half_that_numpy_makes_of_it(patterns: list[int]) -> None:
    values = np.array(patterns, np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        expected = values.astype(np.float16)
    got, _ = store(writer(TIERS[-1], KVType.F16), values, np.float16)
    numbers = ~np.isnan(values)
    np.testing.assert_array_equal(got.view(np.uint16)[numbers], expected.view(np.uint16)[numbers])
    assert np.isnan(got[~numbers]).all()


@given(st.lists(st.floats(-(2.0**-13), 2.0**-13, width=32), min_size=1, max_size=200))
def test_small_floats_become_the_subnormal_halves_that_numpy_makes(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    got, _ = store(writer(TIERS[-1], KVType.F16), values, np.float16)
    np.testing.assert_array_equal(got.view(np.uint16), values.astype(np.float16).view(np.uint16))
