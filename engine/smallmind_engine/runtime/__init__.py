"""The runtime: requests from prompt to result, with their queue, caches, streams and ledger."""

from smallmind_engine.runtime.choices import Choice, ChoicesResult, ChoicesRun
from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.embedding import EmbeddingRun
from smallmind_engine.runtime.embedding_types import (
    EmbeddingOptions,
    EmbeddingResult,
    Truncation,
)
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
from smallmind_engine.runtime.perplexity import (
    PerplexityOptions,
    PerplexityResult,
    PerplexityRun,
)
from smallmind_engine.runtime.pooling import Pooling
from smallmind_engine.runtime.results import GenerationResult, StreamChunk, Timings, Usage
from smallmind_engine.runtime.scoring import (
    ScoreResult,
    ScoringOptions,
    ScoringRun,
    TokenScore,
)
from smallmind_engine.runtime.streams import StreamBuffer, TokenStream, buffered, pulled

__all__ = [
    "CHAT",
    "TEXT_COMPLETION",
    "BackpressurePolicy",
    "CacheSlot",
    "Choice",
    "ChoicesResult",
    "ChoicesRun",
    "ContextOverflow",
    "Detail",
    "EmbeddingOptions",
    "EmbeddingResult",
    "EmbeddingRun",
    "EngineCore",
    "EngineOptions",
    "GenerationOptions",
    "GenerationRequest",
    "GenerationResult",
    "GenerationRun",
    "PerplexityOptions",
    "PerplexityResult",
    "PerplexityRun",
    "Pooling",
    "ScoreResult",
    "ScoringOptions",
    "ScoringRun",
    "StreamBuffer",
    "StreamChunk",
    "Timings",
    "TokenScore",
    "TokenStream",
    "Truncation",
    "Usage",
    "buffered",
    "pulled",
    "status_of",
]
