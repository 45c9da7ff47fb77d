"""The KV cache: keys and values of the tokens that a sequence already has."""

from smallmind_engine.cache.kv_cache import (
    BLOCK_TOKENS,
    DenseKVCache,
    KVCache,
    round_up_to_block,
)
from smallmind_engine.cache.kv_type import KVType
from smallmind_engine.cache.paged_kv_cache import PagedKVCache, PagePool

__all__ = [
    "BLOCK_TOKENS",
    "DenseKVCache",
    "KVCache",
    "KVType",
    "PagePool",
    "PagedKVCache",
    "round_up_to_block",
]
