"""Reading: work that takes texts in and brings numbers out, such as vectors and scores."""

from smallmind_engine.runtime.reading.embedding import EmbeddingRun
from smallmind_engine.runtime.reading.embedding_types import (
    EmbeddingOptions,
    EmbeddingResult,
    Truncation,
)
from smallmind_engine.runtime.reading.perplexity import (
    PerplexityOptions,
    PerplexityResult,
    PerplexityRun,
)
from smallmind_engine.runtime.reading.pooling import Pooling
from smallmind_engine.runtime.reading.scoring import (
    ScoreResult,
    ScoringOptions,
    ScoringRun,
    TokenScore,
)

__all__ = [
    "EmbeddingOptions",
    "EmbeddingResult",
    "EmbeddingRun",
    "PerplexityOptions",
    "PerplexityResult",
    "PerplexityRun",
    "Pooling",
    "ScoreResult",
    "ScoringOptions",
    "ScoringRun",
    "TokenScore",
    "Truncation",
]
