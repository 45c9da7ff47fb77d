"""What becomes of a sequence that is longer than the context window."""

from __future__ import annotations

from typing import Final

_BEGINNING_SHARE: Final = 8
"""The beginning that slides keep: an eighth of the window."""


def without_middle(ids: list[int], room: int) -> list[int]:
    """The first and the last tokens, ``room`` in all.

    >>> without_middle([1, 2, 3, 4, 5, 6], 4)
    [1, 2, 5, 6]
    """
    head = room // 2
    return [*ids[:head], *ids[len(ids) - (room - head) :]]


def slid(ids: list[int], room: int) -> list[int]:
    """The beginning and the newest: the older half between them is dropped until it fits.

    Args:
        ids: longer than ``room``.
        room: tokens that the answer has at most, at least 1.

    >>> slid(list(range(16)), 15)
    [0, 9, 10, 11, 12, 13, 14, 15]
    """
    beginning = room // _BEGINNING_SHARE
    head, rest = ids[:beginning], ids[beginning:]
    while len(head) + len(rest) > room:
        rest = rest[(len(rest) + 1) // 2 :]
    return [*head, *rest]
