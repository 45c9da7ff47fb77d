"""Grounding: when what was found can bear an answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from smallmind.rag._results import RetrievedChunk
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingRules:
    """When a chunk is a source, and how many it takes.

    A chunk is good enough when it holds enough of the question's words, or when it is near enough
    in meaning. The scales of embedders differ: ``docs/explanation/retrieval.md`` has measurements.

    Attributes:
        min_coverage: share of the question's words, 0 to 1; above 1 words alone do not suffice.
        min_similarity: cosine with the question; above 1 nearness alone does not suffice.
        min_sources: chunks that must be good enough.
    """

    min_coverage: float = 0.6
    min_similarity: float = 0.45
    min_sources: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        if self.min_sources < 0:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"min_sources is {self.min_sources}; it must be at least 0",
                option="min_sources",
                value=self.min_sources,
            )

    def takes(self, coverage: float, similarity: float | None) -> bool:
        """Whether a chunk is good enough to be a source."""
        near = similarity is not None and similarity >= self.min_similarity
        return near or coverage >= self.min_coverage

    def suffices(self, chunks: Iterable[RetrievedChunk]) -> bool:
        """Whether enough of the chunks are good enough."""
        return sum(chunk.sufficient for chunk in chunks) >= max(1, self.min_sources)
