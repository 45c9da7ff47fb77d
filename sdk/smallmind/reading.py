"""Options and results of ``Engine.embed``, ``score``, ``perplexity`` and ``choices``."""

from smallmind_engine.runtime.choices import Choice, ChoicesResult
from smallmind_engine.runtime.reading import (
    EmbeddingOptions,
    EmbeddingResult,
    PerplexityOptions,
    PerplexityResult,
    Pooling,
    ScoreResult,
    ScoringOptions,
    TokenScore,
    Truncation,
)

__all__ = [
    "Choice",
    "ChoicesResult",
    "EmbeddingOptions",
    "EmbeddingResult",
    "PerplexityOptions",
    "PerplexityResult",
    "Pooling",
    "ScoreResult",
    "ScoringOptions",
    "TokenScore",
    "Truncation",
]
