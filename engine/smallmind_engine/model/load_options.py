"""How a model is to be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from smallmind_engine.cache import KVType
from smallmind_engine.kernels import WeightsMode
from smallmind_engine.memory import MemoryLimit
from smallmind_engine.tokenizers import TokenizerMode

_KEPT_CONTEXTS: Final = 4
_KEPT_BYTES: Final = 256 * 2**20


def kept_prefix_tokens(context_length: int, kv_bytes_per_token: int) -> int:
    """Tokens of shared prefixes that are kept when nobody says how many.

    Args:
        context_length: a few context windows of this size are kept,
        kv_bytes_per_token: but no more bytes than a fixed number.
    """
    if not kv_bytes_per_token:  # an encoder has no caches
        return 0
    return min(_KEPT_CONTEXTS * context_length, _KEPT_BYTES // kv_bytes_per_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to load.

    Attributes:
        backend: name of a backend, or ``auto``.
        weights: where weights live; None for whatever fits.
        kv_cache_type: what KV caches store; None for the backend's own choice.
        threads: that compute at once; None for all that there are.
        keep_packed_weights: keep packed weights on disk for the next load.
        context_length: positions that will be used; None for all the model was trained for.
        tokenizer_mode: see ``TokenizerMode``.
        strict_tokenizer: refuse rather than fall back.
        measure_machine: tell what the machine can do at most, which takes a moment.
        memory_limit: what the budget is held against; that of the budget, or else the system's,
            when None.
        max_tensor_bytes: largest size of a tensor in memory; None for any.
        sequences: that a step computes at once.
        prefix_cache: whether KV blocks are kept for prompts that begin alike.
        max_prefix_tokens: tokens in such blocks; None for some context windows, as far as
            there is memory.
        max_kv_tokens: tokens in KV caches and such blocks together; None for any number.
    """

    backend: str = "auto"
    weights: WeightsMode | None = None
    kv_cache_type: KVType | None = None
    threads: int | None = None
    keep_packed_weights: bool = False
    context_length: int | None = None
    tokenizer_mode: TokenizerMode = TokenizerMode.AUTO
    strict_tokenizer: bool = False
    measure_machine: bool = False
    memory_limit: MemoryLimit | None = None
    max_tensor_bytes: int | None = None
    sequences: int = 1
    prefix_cache: bool = False
    max_prefix_tokens: int | None = None
    max_kv_tokens: int | None = None

    def prefix_tokens(self, context_length: int, kv_bytes_per_token: int) -> int:
        """Tokens that are kept for prompts that begin alike, at most."""
        if not self.prefix_cache:
            return 0
        kept = self.max_prefix_tokens
        if kept is None:
            kept = kept_prefix_tokens(context_length, kv_bytes_per_token)
        if self.max_kv_tokens is not None:
            kept = min(kept, max(0, self.max_kv_tokens - context_length))
        return kept
