"""Making tables of hundreds of thousands of entries piece by piece, so that it can be stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from smallmind_engine.control import WorkLimit

_T = TypeVar("_T")

ENTRIES_AT_ONCE: Final = 8192
"""Entries between two looks at the limit: a few milliseconds' work."""


def pieces(entries: Sequence[_T], limit: WorkLimit) -> Iterator[Sequence[_T]]:
    """The entries, some thousands at a time.

    Raises:
        OperationCancelledError: the limit was reached.
    """
    for begin in range(0, len(entries), ENTRIES_AT_ONCE):
        limit.check("building the tokenizer")
        yield entries[begin : begin + ENTRIES_AT_ONCE]


def first_places(entries: Sequence[str], limit: WorkLimit) -> dict[str, int]:
    """The index of each entry; of equal ones, the first.

    Raises:
        OperationCancelledError: the limit was reached.

    >>> from smallmind_engine.control import NO_LIMIT
    >>> first_places(["a", "b", "a"], NO_LIMIT)
    {'a': 0, 'b': 1}
    """
    places: dict[str, int] = {}
    # Backwards, so that the first of two equal entries wins.
    for end in range(len(entries), 0, -ENTRIES_AT_ONCE):
        limit.check("building the tokenizer")
        begin = max(0, end - ENTRIES_AT_ONCE)
        places.update(zip(reversed(entries[begin:end]), range(end - 1, begin - 1, -1), strict=True))
    return places
