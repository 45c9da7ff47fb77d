"""Reciprocal rank fusion: one ranking out of several, whatever their scores mean."""

from __future__ import annotations

from collections.abc import Sequence


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
