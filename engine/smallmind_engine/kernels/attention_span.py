"""How much of a sequence the attention of a step looks at."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[int, int]
"""Of a sequence in a step: positions before its new tokens, and number of these."""


def attention_span(spans: Iterable[Span], window: int | None) -> tuple[int, int]:
    """What new tokens see, causally: pairs of query and key, and positions seen by any of them.

    Args:
        spans: one for each sequence.
        window: a token sees so many last positions, its own included; None for all.

    >>> attention_span([(0, 4)], None), attention_span([(10, 1), (0, 2)], 3)
    ((10, 4), (6, 5))
    """
    pairs = positions = 0
    for before, count in spans:
        after = before + count
        reach = after if window is None else window
        whole = min(max(reach - before, 0), count)  # tokens that see all before them
        pairs += whole * before + whole * (whole + 1) // 2 + (count - whole) * reach
        positions += after - max(0, before + 1 - reach)
    return pairs, positions
