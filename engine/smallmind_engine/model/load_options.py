"""How a model is to be loaded."""

from __future__ import annotations

from dataclasses import dataclass

from smallmind_engine.cache import KVType
from smallmind_engine.kernels import WeightsMode
from smallmind_engine.memory import MemoryLimit
from smallmind_engine.tokenizers import TokenizerMode


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
        prefix_store_bytes: KV blocks that are kept for prompts that begin alike.
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
    prefix_store_bytes: int = 0
