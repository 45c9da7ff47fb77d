"""What a grammar is made of: single characters, and the ways of putting them together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

LAST_CHAR: Final = 0x10FFFF
_SURROGATES: Final = (0xD800, 0xDFFF)

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Code points from … to, both included; ascending, apart from each other, no surrogates."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set.

    Attributes:
        place: number of this occurrence in the grammar; no other has the same.
        ranges: the set, not empty.
    """

    place: int
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class RuleRef:
    """What a rule says."""

    name: str


@dataclass(frozen=True, slots=True)
class Series:
    """One after the other; none at all is the empty text."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of several."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same, ``least`` to ``most`` times; without end when ``most`` is None."""

    body: Node
    least: int
    most: int | None


Node: TypeAlias = Chars | RuleRef | Series | Either | Repeat


def children(node: Node) -> tuple[Node, ...]:
    """What a node is made of."""
    match node:
        case Series(parts):
            return parts
        case Either(options):
            return options
        case Repeat(body):
            return (body,)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """A node and all that it is made of."""
    stack = [node]
    while stack:
        each = stack.pop()
        yield each
        stack += children(each)


def ranges_of(pairs: list[tuple[int, int]], *, inverted: bool) -> Ranges:
    """A set of code points in its one form.

    >>> ranges_of([(98, 99), (97, 97)], inverted=False)
    ((97, 99),)
    """
    merged: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    if inverted:
        edges = [-1, *(edge for pair in merged for edge in pair), LAST_CHAR + 1]
        gaps = zip(edges[::2], edges[1::2], strict=True)
        merged = [(before + 1, after - 1) for before, after in gaps if before + 1 <= after - 1]
    return tuple(part for pair in merged for part in _without_surrogates(*pair))


def _without_surrogates(first: int, last: int) -> Iterator[tuple[int, int]]:
    low, high = _SURROGATES
    if first < low:
        yield first, min(last, low - 1)
    if last > high:
        yield max(first, high + 1), last


@lru_cache(maxsize=4096)
def overlap(left: Ranges, right: Ranges) -> bool:
    """Whether two sets have a character in common."""
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i][1] < right[j][0]:
            i += 1
        elif right[j][1] < left[i][0]:
            j += 1
        else:
            return True
    return False
