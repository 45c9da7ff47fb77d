"""The runtime: requests from prompt to result, with their scheduler, caches, streams and ledger."""

from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.generation import DEFAULT_BUFFERED_TOKENS, GenerationRun
from smallmind_engine.runtime.kv_slot import CacheSlot
from smallmind_engine.runtime.observer import status_of
from smallmind_engine.runtime.options import (
    BackpressurePolicy,
    ContextOverflow,
    Detail,
    EngineOptions,
    GenerationOptions,
)
from smallmind_engine.runtime.request import CHAT, TEXT_COMPLETION, GenerationRequest
from smallmind_engine.runtime.results import GenerationResult, StreamChunk, Timings, Usage
from smallmind_engine.runtime.stats import EngineStats
from smallmind_engine.runtime.streams import TokenStream
from smallmind_engine.runtime.structure import Structured

__all__ = [
    "CHAT",
    "DEFAULT_BUFFERED_TOKENS",
    "TEXT_COMPLETION",
    "BackpressurePolicy",
    "CacheSlot",
    "ContextOverflow",
    "Detail",
    "EngineCore",
    "EngineOptions",
    "EngineStats",
    "GenerationOptions",
    "GenerationRequest",
    "GenerationResult",
    "GenerationRun",
    "StreamChunk",
    "Structured",
    "Timings",
    "TokenStream",
    "Usage",
    "status_of",
]
