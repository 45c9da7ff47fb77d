"""Laws of attention: a softmax for all shapes and windows, and each row on its own."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from hypothesis import given, settings
from hypothesis import strategies as st

from compiled_kernels import TIERS, KVPages, Query, attend, kv_pages
from smallmind_engine.cache import KVType

few = settings(derandomize=True, deadline=None, max_examples=25)
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(list(KVType))


@st.composite
def caches(draw: st.DrawFn) -> tuple[KVPages, list[Query]]:
    """A cache, and up to four rows that see at least one position each."""
    rng = np.random.default_rng(draw(seeds))
    count, key, value = (draw(st.integers(1, most)) for most in (200, 70, 70))
    keys = rng.normal(0, 1, (count, key)).astype(np.float32)
    values = rng.normal(0, 1, (count, value)).astype(np.float32)
    queries = []
    for _ in range(draw(st.integers(1, 4))):
        last = draw(st.integers(0, count - 1))
        first = draw(st.integers(0, last))
        row = rng.normal(0, 2 * key**-0.5, key).astype(np.float32)
        queries.append(Query(row, first, last))
    return kv_pages(draw(kinds), keys, values), queries


@few
@given(drawn=caches(), cap=st.sampled_from([0.0, 5.0]))
def test_each_row_is_a_softmax_over_its_window(
    drawn: tuple[KVPages, list[Query]], cap: float
) -> None:
    pages, queries = drawn
    for got, query in zip(attend(TIERS[0], pages, queries, cap=cap), queries, strict=True):
        seen = slice(query.first, query.last + 1)
        scores = pages.keys[seen].astype(np.float64) @ query.values
        scores = cap * np.tanh(scores / cap) if cap else scores
        weights = np.exp(scores - scores.max())
        expected = weights @ pages.values[seen].astype(np.float64) / weights.sum()
        np.testing.assert_allclose(got, expected, atol=1e-5)


@few
@given(drawn=caches(), tier=st.sampled_from(TIERS))
def test_rows_have_the_same_bits_alone(drawn: tuple[KVPages, list[Query]], tier: str) -> None:
    pages, queries = drawn
    together = attend(tier, pages, queries)
    alone = [attend(tier, pages, [query])[0] for query in queries]
    np.testing.assert_array_equal(together, alone)


@few
@given(drawn=caches())
def test_results_lie_within_the_values_that_are_seen(drawn: tuple[KVPages, list[Query]]) -> None:
    pages, queries = drawn
    for got, query in zip(attend(TIERS[0], pages, queries), queries, strict=True):
        seen = pages.values[query.first : query.last + 1]
        slack = 1e-5 * np.abs(seen).max()
        assert (got <= seen.max(axis=0) + slack).all()
        assert (got >= seen.min(axis=0) - slack).all()
