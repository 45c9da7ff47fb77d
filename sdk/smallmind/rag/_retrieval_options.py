"""How a search is made, and what may judge its results anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from smallmind.rag._fusion import FusionOptions
from smallmind.rag._results import RetrievalMode, RetrievedChunk
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry.errors import invalid_option


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalOptions:
    """How a search is made.

    Attributes:
        mode: what ranks the chunks; None for hybrid where there are vectors, else lexical.
        top_k: chunks to give back at most.
        depth: chunks that each ranking takes part with.
        fusion_constant: of reciprocal rank fusion; larger lets the first places stand out less.
            None for what suits the embedder, as of the weights.
        lexical_weight: of the words' ranking in it.
        dense_weight: of the vectors' ranking in it.
        rerank_depth: of the merged ranking, how many chunks a re-ranker is given.
        max_bytes: of the text of all chunks that are given back, in UTF-8; the best are kept.
    """

    mode: RetrievalMode | None = None
    top_k: int = 5
    depth: int = 50
    fusion_constant: float | None = None
    lexical_weight: float | None = None
    dense_weight: float | None = None
    rerank_depth: int = 20
    max_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        """Check the values; a plain string becomes the mode that it names."""
        if self.mode is not None:
            try:
                object.__setattr__(self, "mode", RetrievalMode(self.mode))
            except ValueError:
                raise invalid_option(
                    "mode", self.mode, f"one of {', '.join(RetrievalMode)}"
                ) from None
        for name in ("top_k", "depth", "rerank_depth", "max_bytes"):
            if getattr(self, name) < 1:
                raise invalid_option(name, getattr(self, name), "at least 1")
        for name in ("fusion_constant", "lexical_weight", "dense_weight"):
            value = getattr(self, name)
            if value is not None and not value >= 0.0:
                raise invalid_option(name, value, "a number of at least 0")

    def fusion(self, usual: FusionOptions) -> FusionOptions:
        """How rankings are merged: as is said here, else as ``usual`` says."""
        said = {
            "constant": self.fusion_constant,
            "lexical_weight": self.lexical_weight,
            "dense_weight": self.dense_weight,
        }
        given = {name: value for name, value in said.items() if value is not None}
        return dataclasses.replace(usual, **given)


class Reranker(Protocol):
    """Judges chunks anew, slower and better than the rankings. Called from several threads."""

    def scores(
        self, question: str, chunks: Sequence[RetrievedChunk], /, *, limit: WorkLimit
    ) -> Sequence[float]:
        """How well each chunk fits; higher is better. It can neither add chunks nor change them.

        Raises:
            OperationCancelledError: the limit was reached.
        """
        ...
