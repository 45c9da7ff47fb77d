"""The KV cache: keys and values of the tokens that a sequence already has."""

from smallmind_engine.cache.kv_cache import (
    BLOCK_TOKENS,
    CopiedBlock,
    DenseKVCache,
    KVBlock,
    KVCache,
    blocks_for,
    round_up_to_block,
)
from smallmind_engine.cache.kv_type import KVType
from smallmind_engine.cache.paged_kv_cache import Page, PagedKVCache, PagePool, SharedPage
from smallmind_engine.cache.prefix_tree import (
    PrefixBlock,
    PrefixMatch,
    PrefixTree,
    common_prefix,
)

__all__ = [
    "BLOCK_TOKENS",
    "CopiedBlock",
    "DenseKVCache",
    "KVBlock",
    "KVCache",
    "KVType",
    "Page",
    "PagePool",
    "PagedKVCache",
    "PrefixBlock",
    "PrefixMatch",
    "PrefixTree",
    "SharedPage",
    "blocks_for",
    "common_prefix",
    "round_up_to_block",
]
