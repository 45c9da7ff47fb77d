"""The runtime: requests from prompt to result, with their queue, caches, streams and ledger."""

from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.generation import (
    CHAT,
    TEXT_COMPLETION,
    GenerationRequest,
    GenerationRun,
)
from smallmind_engine.runtime.kv_store import CacheSlot
from smallmind_engine.runtime.observer import status_of
from smallmind_engine.runtime.options import (
    BackpressurePolicy,
    ContextOverflow,
    Detail,
    EngineOptions,
    GenerationOptions,
)
from smallmind_engine.runtime.results import GenerationResult, StreamChunk, Timings, Usage
from smallmind_engine.runtime.streams import StreamBuffer, TokenStream, buffered, pulled

__all__ = [
    "CHAT",
    "TEXT_COMPLETION",
    "BackpressurePolicy",
    "CacheSlot",
    "ContextOverflow",
    "Detail",
    "EngineCore",
    "EngineOptions",
    "GenerationOptions",
    "GenerationRequest",
    "GenerationResult",
    "GenerationRun",
    "StreamBuffer",
    "StreamChunk",
    "Timings",
    "TokenStream",
    "Usage",
    "buffered",
    "pulled",
    "status_of",
]
