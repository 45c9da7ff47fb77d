"""Merging symbols into tokens: always the best pair, the leftmost of equals, until none is left.

The same loop serves byte-pair encoding (best = lowest merge rank) and SentencePiece's greedy
merging (best = highest score).

Sources: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units",
algorithm 1; Kudo & Richardson 2018, "SentencePiece", for the heap of candidate pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from math import inf
from typing import Final

from smallmind_engine.control import WorkLimit

PairRank = Callable[[str, str], float | None]
"""How early two neighbours merge: lowest first; None when they never do."""

_Pair = tuple[float, int, int, int]
"""Rank, place of the left symbol, place of the right one, length of both together."""

_SCAN_UP_TO: Final = 24
"""Symbols up to which scanning all pairs beats keeping a heap."""

_CHECK_EVERY: Final = 1024
"""Steps of a long merge between two looks at the limit: well under a millisecond each."""


def merge_symbols(symbols: Sequence[str], rank: PairRank, limit: WorkLimit) -> list[str]:
    """Merge neighbours until no pair has a rank.

    Args:
        symbols: what to merge, usually single characters.
        rank: rank of a pair; finite, and the same at every call.
        limit: checked often enough for words of any length.

    Returns:
        The merged symbols; their concatenation is that of ``symbols``.

    Raises:
        OperationCancelledError: the limit was reached.
    """
    if len(symbols) <= _SCAN_UP_TO:
        return _merge_by_scan(list(symbols), rank)
    return _merge_by_heap(list(symbols), rank, limit)


def _merge_by_scan(symbols: list[str], rank: PairRank) -> list[str]:
    ranks = [_or_never(rank(*pair)) for pair in pairwise(symbols)]
    while ranks and (best := min(ranks)) < inf:
        at = ranks.index(best)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
        del ranks[at]
        if at > 0:
            ranks[at - 1] = _or_never(rank(symbols[at - 1], symbols[at]))
        if at < len(ranks):
            ranks[at] = _or_never(rank(symbols[at], symbols[at + 1]))
    return symbols


def _or_never(rank: float | None) -> float:
    return inf if rank is None else rank


def _merge_by_heap(symbols: list[str], rank: PairRank, limit: WorkLimit) -> list[str]:
    count = len(symbols)
    following = [*range(1, count), -1]
    preceding = list(range(-1, count - 1))
    heap = _all_pairs(symbols, rank, limit)
    steps = 0
    while heap:
        steps += 1
        if steps % _CHECK_EVERY == 0:
            limit.check("tokenising")
        _, left, right, size = heappop(heap)
        first, second = symbols[left], symbols[right]
        # Symbols only grow or vanish, so a pair is stale exactly when its length changed.
        if not first or not second or len(first) + len(second) != size:
            continue
        merged = first + second
        symbols[left], symbols[right] = merged, ""
        after = following[left] = following[right]
        if after >= 0:
            preceding[after] = left
            found = rank(merged, symbols[after])
            if found is not None:
                heappush(heap, (found, left, after, size + len(symbols[after])))
        before = preceding[left]
        if before >= 0:
            found = rank(symbols[before], merged)
            if found is not None:
                heappush(heap, (found, before, left, size + len(symbols[before])))
    return [symbol for symbol in symbols if symbol]


def _all_pairs(symbols: list[str], rank: PairRank, limit: WorkLimit) -> list[_Pair]:
    """A heap of every neighbouring pair that can merge."""
    heap: list[_Pair] = []
    for right in range(1, len(symbols)):
        if right % _CHECK_EVERY == 0:
            limit.check("tokenising")
        found = rank(symbols[right - 1], symbols[right])
        if found is not None:
            size = len(symbols[right - 1]) + len(symbols[right])
            heap.append((found, right - 1, right, size))
    heapify(heap)
    return heap
