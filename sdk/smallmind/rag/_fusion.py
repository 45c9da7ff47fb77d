"""Reciprocal rank fusion: one ranking out of several, whatever their scores mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smallmind_engine.telemetry.errors import invalid_option


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionOptions:
    """How the rankings of words and of vectors become one; an embedder may carry what suits it.

    Attributes:
        constant: of reciprocal rank fusion; larger lets the first places stand out less.
        lexical_weight: of the words' ranking in it.
        dense_weight: of the vectors' ranking in it.
    """

    constant: float = 60.0
    lexical_weight: float = 1.0
    dense_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("constant", "lexical_weight", "dense_weight"):
            if not getattr(self, name) >= 0.0:
                raise invalid_option(name, getattr(self, name), "a number of at least 0")


def fused(
    rankings: Sequence[tuple[float, Sequence[int]]], constant: float
) -> list[tuple[int, float]]:
    """Merge rankings.

    Args:
        rankings: each with its weight and its ids, best first.
        constant: added to each rank; the larger, the less the first places stand out.

    Returns:
        Ids and their scores, the sum of ``weight / (constant + rank)`` over the rankings that have
        them, best first; of equal ones the smaller id first.

    Source: Cormack, Clarke & Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and
    individual Rank Learning Methods".
    """
    scores: dict[int, float] = {}
    for weight, ids in rankings:
        for rank, chunk in enumerate(ids, 1):
            scores[chunk] = scores.get(chunk, 0.0) + weight / (constant + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
