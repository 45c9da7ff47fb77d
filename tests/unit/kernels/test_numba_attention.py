"""Attention over pages: a softmax in double precision, whatever the cache, window or company."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("numba")

from compiled_kernels import TIERS, Floats, KVPages, Query, attend, kv_pages
from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.isa import IsaTier

BEST = TIERS[0]
TOLERANCE = 1e-5
"""Against what is stored."""

LOSS = {KVType.F32: TOLERANCE, KVType.F16: 1e-3, KVType.INT8: 2e-2}
"""Against what was to be stored."""

kinds = pytest.mark.parametrize("kind", KVType)


def reference(
    keys: Floats, values: Floats, query: Query, cap: float = 0.0
) -> npt.NDArray[np.float64]:
    seen = slice(query.first, query.last + 1)
    scores = keys[seen].astype(np.float64) @ query.values.astype(np.float64)
    if cap:
        scores = cap * np.tanh(scores / cap)
    weights = np.exp(scores - scores.max())
    answer: npt.NDArray[np.float64] = weights @ values[seen].astype(np.float64) / weights.sum()
    return answer


def numbers(count: int, key: int, value: int | None = None, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    keys = rng.normal(0, 1, (count, key)).astype(np.float32)
    return keys, rng.normal(0, 1, (count, value or key)).astype(np.float32)


def query(key: int, first: int, last: int, seed: int = 1) -> Query:
    values = np.random.default_rng(seed).normal(0, key**-0.5, key).astype(np.float32)
    return Query(values * np.float32(2.0), first, last)


def check(pages: KVPages, asked: Query, *, cap: float = 0.0, tier: IsaTier = BEST) -> None:
    got = attend(tier, pages, [asked], cap=cap)[0]
    expected = reference(pages.keys, pages.values, asked, cap)
    np.testing.assert_allclose(got, expected, atol=TOLERANCE)


@kinds
@pytest.mark.parametrize("tier", [TIERS[0], TIERS[-1]])
@pytest.mark.parametrize("size", [5, 16, 20, 64, 80, 256])
def test_attention_is_a_softmax_over_what_is_stored(tier: IsaTier, kind: KVType, size: int) -> None:
    check(kv_pages(kind, *numbers(150, size)), query(size, 0, 149), tier=tier)


@kinds
def test_a_cache_loses_no_more_than_its_type(kind: KVType) -> None:
    keys, values = numbers(150, 64)
    asked = query(64, 0, 149)
    got = attend(BEST, kv_pages(kind, keys, values), [asked])[0]
    np.testing.assert_allclose(got, reference(keys, values, asked), atol=LOSS[kind])


@kinds
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 63, 64, 65, 128, 200])
def test_every_length_of_the_last_page_is_right(kind: KVType, count: int) -> None:
    check(kv_pages(kind, *numbers(count, 20)), query(20, 0, count - 1))


@kinds
@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 0), (199, 199), (63, 64), (64, 127), (10, 50), (40, 199), (100, 110), (0, 199)],
)
def test_only_the_positions_of_the_window_are_seen(kind: KVType, first: int, last: int) -> None:
    check(kv_pages(kind, *numbers(200, 20)), query(20, first, last))


@kinds
@pytest.mark.parametrize("cap", [2.0, 50.0])
def test_scores_are_capped(kind: KVType, cap: float) -> None:
    keys, values = numbers(150, 64)
    pages = kv_pages(kind, keys * np.float32(10.0), values)
    check(pages, query(64, 0, 149), cap=cap)


def test_keys_and_values_may_differ_in_size() -> None:
    check(kv_pages(KVType.F32, *numbers(100, 48, 20)), query(48, 0, 99))


@kinds
@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_each_row_is_right_beside_the_others(kind: KVType, rows: int) -> None:
    pages = kv_pages(kind, *numbers(200, 80))
    asked = [query(80, 30 * row, 190 + row, seed=row) for row in range(rows)]
    for got, one in zip(attend(BEST, pages, asked), asked, strict=True):
        expected = reference(pages.keys, pages.values, one)
        np.testing.assert_allclose(got, expected, atol=TOLERANCE)


@kinds
@pytest.mark.parametrize("tier", [TIERS[0], TIERS[-1]])
def test_a_row_has_the_same_bits_in_every_company(tier: IsaTier, kind: KVType) -> None:
    """Neighbours that see less, more, other pages, or with larger scores, change nothing."""
    pages = kv_pages(kind, *numbers(200, 20))
    one = query(20, 5, 100)
    loud = Query(one.values * np.float32(100.0), 0, 199)
    others = [query(20, 150, 160, seed=7), loud, query(20, 0, 3, seed=8)]
    alone = attend(tier, pages, [one])[0].view(np.uint32)
    for count in (1, 2, 3):
        for place in range(count + 1):
            asked = [*others[:count][:place], one, *others[:count][place:]]
            together = attend(tier, pages, asked)[place].view(np.uint32)
            np.testing.assert_array_equal(together, alone)


@kinds
def test_pages_that_no_row_sees_change_nothing(kind: KVType) -> None:
    pages = kv_pages(kind, *numbers(300, 20))
    one = query(20, 130, 180)
    few = attend(BEST, pages, [one], pages=(2, 3))[0]
    np.testing.assert_array_equal(attend(BEST, pages, [one])[0], few)


@kinds
def test_all_tiers_attend_alike(kind: KVType) -> None:
    pages = kv_pages(kind, *numbers(150, 80))
    asked = [query(80, 0, 149), query(80, 20, 120, seed=2)]
    first = attend(TIERS[0], pages, asked)
    for tier in TIERS[1:]:
        np.testing.assert_array_equal(attend(tier, pages, asked), first)


# -- what must not leak -------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("cap", [0.0, 30.0])
@pytest.mark.filterwarnings("ignore:overflow")
def test_garbage_behind_the_last_position_does_not_leak(
    kind: KVType, garbage: float, cap: float
) -> None:
    keys, values = numbers(70, 20)
    asked = [query(20, 0, 69), query(20, 0, 66, seed=2), query(20, 66, 69, seed=3)]
    clean = attend(BEST, kv_pages(kind, keys, values, garbage=0.0), asked, cap=cap)
    dirty = attend(BEST, kv_pages(kind, keys, values, garbage=garbage), asked, cap=cap)
    np.testing.assert_array_equal(dirty, clean)


def test_large_scores_do_not_overflow() -> None:
    keys, values = numbers(130, 16)
    pages = kv_pages(KVType.F32, keys * np.float32(1e4), values)
    check(pages, query(16, 0, 129))


def test_very_negative_scores_still_sum_to_one() -> None:
    """All scores lie far below zero, some in later pages far below others."""
    keys = np.full((130, 16), 100.0, np.float32)
    keys[65:] *= 3
    pages = kv_pages(KVType.F32, keys, np.ones((130, 16), np.float32))
    got = attend(BEST, pages, [Query(np.full(16, -1.0, np.float32), 0, 129)])[0]
    np.testing.assert_allclose(got, 1.0, rtol=1e-5)


def test_a_maximum_in_the_last_page_outweighs_the_pages_before() -> None:
    keys, values = numbers(200, 16)
    keys[-1] = 40.0
    pages = kv_pages(KVType.F32, keys, values)
    got = attend(BEST, pages, [Query(np.full(16, 2.0, np.float32), 0, 199)])[0]
    np.testing.assert_allclose(got, values[-1], atol=1e-6)


def test_a_hundred_pages_are_as_exact_as_one() -> None:
    keys, values = numbers(64 * 100, 16)
    check(kv_pages(KVType.F32, keys, values), query(16, 0, len(keys) - 1))
