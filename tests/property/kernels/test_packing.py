"""Laws of packing: what comes back is what the file holds, whatever the shape and order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packed_weights import OWN, aligned_bytes, packed, random_matrix
from smallmind_engine.gguf import LAYOUTS as GGUF_LAYOUTS
from smallmind_engine.gguf import QuantType, dequantize
from smallmind_engine.kernels.packing import (
    LAYOUTS,
    PackedLayout,
    layout_of,
    pack_matrix,
    planes,
    unpack_matrix,
)

own = pytest.mark.parametrize("qtype", OWN, ids=lambda qtype: qtype.name)
few = settings(derandomize=True, deadline=None, max_examples=8)
seeds = st.integers(0, 2**32 - 1)


@own
@few
@given(seed=seeds, rows=st.integers(1, 70), blocks=st.integers(1, 5))
def test_packing_loses_nothing(qtype: QuantType, seed: int, rows: int, blocks: int) -> None:
    columns = blocks * max(GGUF_LAYOUTS[qtype].block_elements, 7)
    data = random_matrix(np.random.default_rng(seed), qtype, rows, columns)
    expected = dequantize(data, qtype, (rows, columns))
    got = packed(data, qtype, rows, columns).values
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@own
@few
@given(seed=seeds, rows=st.integers(1, 40), taken=st.integers(1, 40))
def test_rows_may_be_picked_in_any_order(
    qtype: QuantType, seed: int, rows: int, taken: int
) -> None:
    """As attention heads are put in another order when they are packed."""
    rng = np.random.default_rng(seed)
    data = random_matrix(rng, qtype, rows, 256)
    order = rng.permutation(rows).astype(np.int64)
    layout = layout_of(qtype, 256)
    out = aligned_bytes(planes(layout, rows, 256).n_bytes, fill=taken)
    pack_matrix(data, qtype, layout, rows, 256, out, order=order)
    expected = dequantize(data, qtype, (rows, 256))[order]
    np.testing.assert_array_equal(unpack_matrix(out, layout, rows, 256), expected)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
@given(rows=st.integers(1, 5000), blocks=st.integers(1, 40))
def test_planes_are_aligned_and_hold_all_weights(
    layout: PackedLayout, rows: int, blocks: int
) -> None:
    columns = blocks * (256 if layout.is_super else 32)
    where = planes(layout, rows, columns)
    places = [where.low, where.high, where.scales, where.supers, where.n_bytes]
    assert places == sorted(places)
    assert [place % 64 for place in places] == [0] * 5
    bits = layout.base_bits + layout.high_bits + 8 * layout.item_bytes
    assert where.scales == where.groups * 16 * columns * bits // 8
    assert 16 * (where.groups - 1) < rows <= 16 * where.groups
