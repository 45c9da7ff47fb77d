"""Blocks of a cache that others use too: by reference in pages, as copies in dense caches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from smallmind_engine.cache import BLOCK_TOKENS, DenseKVCache, KVCache, PagedKVCache, PagePool

PAGE_BYTES = 1024


def filled_pages(cache: PagedKVCache, first: int) -> None:
    for index, page in enumerate(cache._pages):
        page.memory[:] = first + index
    cache.length = cache.capacity


def contents(cache: PagedKVCache) -> list[int]:
    return [int(page.memory[7]) for page in cache._pages]


def test_a_page_goes_back_with_its_last_user() -> None:
    pool = PagePool(PAGE_BYTES)
    cache = PagedKVCache(pool, 2 * BLOCK_TOKENS)
    filled_pages(cache, 1)
    block = cache.share_block(0)
    other = PagedKVCache(pool, 0)
    other.use_blocks([block])
    assert (pool.lent, other.length, other.capacity) == (2, BLOCK_TOKENS, BLOCK_TOKENS)
    assert other.addresses[0] == cache.addresses[0]
    cache.release()
    assert (pool.lent, contents(other)) == (1, [1])
    block.release()
    assert pool.lent == 1
    other.release()
    assert pool.lent == 0


def test_a_copied_page_is_the_caches_own() -> None:
    pool = PagePool(PAGE_BYTES)
    cache, other = PagedKVCache(pool, BLOCK_TOKENS), PagedKVCache(pool, BLOCK_TOKENS)
    filled_pages(cache, 5)
    block = cache.share_block(0)
    other.copy_block(0, block)
    other._pages[0].memory[0] = 99
    assert contents(other) == [5]
    assert int(cache._pages[0].memory[0]) == 5
    assert other.addresses[0] != cache.addresses[0]


def test_a_page_that_was_computed_twice_is_kept_once() -> None:
    pool = PagePool(PAGE_BYTES)
    cache, other = PagedKVCache(pool, 2 * BLOCK_TOKENS), PagedKVCache(pool, 2 * BLOCK_TOKENS)
    filled_pages(cache, 1)
    filled_pages(other, 1)
    other.swap_block(1, cache.share_block(1))
    assert pool.lent == 3
    assert other.addresses[1] == cache.addresses[1]
    assert pool.nbytes == 4 * PAGE_BYTES


def test_growing_keeps_shared_pages() -> None:
    pool = PagePool(PAGE_BYTES)
    cache = PagedKVCache(pool, BLOCK_TOKENS)
    filled_pages(cache, 3)
    other = PagedKVCache(pool, 0)
    other.use_blocks([cache.share_block(0)])
    other.reserve(3 * BLOCK_TOKENS)
    assert other.addresses.tolist() == [page.address for page in other._pages]
    assert other.addresses[0] == cache.addresses[0]
    assert all(address % 64 == 0 for address in other.addresses)


def test_dense_blocks_are_copies() -> None:
    cache = DenseKVCache(1, 2, 4, 3, 2 * BLOCK_TOKENS)
    cache.keys[:] = np.arange(2 * BLOCK_TOKENS)[:, None]
    cache.values[:] = -np.arange(2 * BLOCK_TOKENS)[:, None]
    cache.length = 2 * BLOCK_TOKENS
    blocks = [cache.share_block(index) for index in range(2)]
    cache.keys[:] = 0.0
    other = DenseKVCache(1, 2, 4, 3, 0)
    other.use_blocks(blocks)
    assert other.length == 2 * BLOCK_TOKENS
    other.reserve(3 * BLOCK_TOKENS)
    other.copy_block(2, blocks[0])
    np.testing.assert_array_equal(
        other.keys[0, 1, :, 2], [*range(2 * BLOCK_TOKENS), *range(BLOCK_TOKENS)]
    )
    np.testing.assert_array_equal(other.values[0, 0, : 2 * BLOCK_TOKENS, 0], -np.arange(128))
    assert not other.shares_memory
    before = other.keys.copy()
    other.swap_block(0, blocks[1])
    np.testing.assert_array_equal(other.keys, before)


@pytest.mark.parametrize(
    ("mine", "foreign"),
    [
        (lambda: DenseKVCache(1, 1, 2, 2, 64), lambda: PagedKVCache(PagePool(64), 64)),
        (lambda: PagedKVCache(PagePool(64), 64), lambda: DenseKVCache(1, 1, 2, 2, 64)),
    ],
)
def test_blocks_of_another_kind_are_refused(
    mine: Callable[[], KVCache], foreign: Callable[[], KVCache]
) -> None:
    with pytest.raises(TypeError):
        mine().copy_block(0, foreign().share_block(0))
