"""The KV cache: keys and values of the tokens that a sequence already has."""

from smallmind_engine.cache.kv_cache import BLOCK_TOKENS, KVCache, round_up_to_block

__all__ = ["BLOCK_TOKENS", "KVCache", "round_up_to_block"]
