"""What a retrieval gives back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from smallmind_engine.telemetry import Correlation


class RetrievalMode(StrEnum):
    """What ranks the chunks."""

    LEXICAL = "lexical"  # their words, by BM25
    DENSE = "dense"  # their vectors, by cosine
    HYBRID = "hybrid"  # both rankings, merged


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievedChunk:
    """A chunk that was found, and why.

    Attributes:
        chunk_id: of the index; never given to another chunk.
        collection: of its document.
        source: name of its document within the collection.
        title: what the document calls itself; may be empty.
        content_hash: SHA-256 of the document's bytes when it was indexed.
        labels: what a user must hold to see it.
        heading: of its section; may be empty.
        page: number of the page it begins on, from 1; None without pages.
        start: its first character in the document's extracted text.
        end: the character after its last one.
        text: the characters between.
        tokens: as counted when it was cut.
        score: what it was ranked by; only comparable within one retrieval.
        lexical_rank: its place by BM25, from 1; None when it was not among the candidates.
        dense_rank: its place by cosine; likewise.
        similarity: cosine with the question; None without vectors.
        coverage: share of the question's words that it holds, 0 to 1.
        sufficient: whether the grounding rules take it as a source.
    """

    chunk_id: int
    collection: str
    source: str
    title: str
    content_hash: str
    labels: frozenset[str]
    heading: str
    page: int | None
    start: int
    end: int
    text: str
    tokens: int
    score: float = 0.0
    lexical_rank: int | None = None
    dense_rank: int | None = None
    similarity: float | None = None
    coverage: float = 0.0
    sufficient: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalResult:
    """What was found for a question.

    Attributes:
        chunks: best first.
        mode: what ranked them.
        candidates: chunks that were ranked.
        sufficient: whether they can bear an answer, by the grounding rules.
        duration_s: seconds that it took.
        phases: seconds by phase, in order.
        correlation: ids that its events and log lines carry too.
    """

    chunks: tuple[RetrievedChunk, ...]
    mode: RetrievalMode
    candidates: int
    sufficient: bool
    duration_s: float
    phases: tuple[tuple[str, float], ...]
    correlation: Correlation
