"""The KV cache grows by blocks and keeps what is in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallmind_engine.cache import BLOCK_TOKENS, DenseKVCache, round_up_to_block
from smallmind_engine.telemetry.errors import ContextOverflowError


def test_capacity_is_whole_blocks() -> None:
    cache = DenseKVCache(2, 3, 4, 5, 1)
    assert cache.capacity == BLOCK_TOKENS
    assert cache.bytes_per_token == 2 * 3 * (4 + 5) * 4
    assert cache.allocated_bytes == BLOCK_TOKENS * cache.bytes_per_token


@given(st.integers(1, 10_000))
def test_rounding_up_is_the_next_multiple(tokens: int) -> None:
    rounded = round_up_to_block(tokens)
    assert rounded % BLOCK_TOKENS == 0
    assert 0 <= rounded - tokens < BLOCK_TOKENS


def test_growing_keeps_the_tokens() -> None:
    cache = DenseKVCache(1, 2, 4, 4, 10)
    cache.keys[:, :, :10] = np.arange(10)[:, None]
    cache.values[:, :, :10] = -np.arange(10)[:, None]
    cache.length = 10
    cache.reserve(1000)
    assert cache.capacity >= 1000
    np.testing.assert_array_equal(cache.keys[0, 1, :10, 0], np.arange(10))
    np.testing.assert_array_equal(cache.values[0, 0, :10, 3], -np.arange(10))
    before = cache.keys
    cache.reserve(5)
    assert cache.keys is before


def test_truncating_never_lengthens() -> None:
    cache = DenseKVCache(1, 1, 2, 2, 10)
    cache.length = 7
    cache.truncate(9)
    assert cache.length == 7
    cache.truncate(3)
    assert (cache.length, cache.used_bytes) == (3, 3 * cache.bytes_per_token)


def test_a_step_that_does_not_fit_is_refused_with_numbers() -> None:
    cache = DenseKVCache(1, 1, 2, 2, 10)
    cache.length = BLOCK_TOKENS - 1
    cache.check_room(1)
    with pytest.raises(ContextOverflowError) as caught:
        cache.check_room(2)
    assert caught.value.details == {
        "length": BLOCK_TOKENS - 1,
        "capacity": BLOCK_TOKENS,
        "wanted": 2,
    }
