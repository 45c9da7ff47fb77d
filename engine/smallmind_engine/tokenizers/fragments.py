"""Cutting special tokens out of a text, before what lies between is tokenised.

Longer tokens go first over the whole text, as in the reference (llama.cpp): where two overlap,
the longer one wins even when the other begins earlier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from smallmind_engine.control import WorkLimit

_WINDOW: Final = 4096
"""Characters searched between two looks at the limit."""

_ASCII_BLANKS: Final = " \t\n\v\f\r"

Fragment = str | int
"""A stretch of text, or the id of a special token."""


class SpecialTokenSplitter:
    """Finds a fixed set of tokens in texts.

    Args:
        ids: id of each token text.
        strip_after: ids that swallow the blanks after them.
    """

    __slots__ = ("_ids", "_lengths", "_start", "_strip_after")

    def __init__(self, ids: Mapping[str, int], strip_after: frozenset[int] = frozenset()) -> None:
        self._ids = {text: token_id for text, token_id in ids.items() if text}
        self._strip_after = strip_after
        lengths: dict[str, set[int]] = {}
        for text in self._ids:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {char: sorted(found, reverse=True) for char, found in lengths.items()}
        self._start = _start_pattern(self._ids) if self._ids else None

    def split(self, text: str, limit: WorkLimit) -> list[Fragment]:
        """The fragments of ``text``, in order, none empty.

        Raises:
            OperationCancelledError: the limit was reached.
        """
        fragments: list[Fragment] = [text] if text else []
        for token in self._occurring(text, limit):
            limit.check("tokenising")
            fragments = list(self._cut(fragments, token))
        return fragments

    def _occurring(self, text: str, limit: WorkLimit) -> list[str]:
        """Tokens that may be found in ``text``, the longest first."""
        if self._start is None:
            return []
        found: set[str] = set()
        for window in range(0, len(text), _WINDOW):
            limit.check("tokenising")
            # One more character, for the look-ahead at the window's end.
            for match in self._start.finditer(text, window, window + _WINDOW + 1):
                start = match.start()
                for length in self._lengths[text[start]]:
                    piece = text[start : start + length]
                    if piece in self._ids:
                        found.add(piece)
                        break
        # A longer token may take away what a shorter one with the same beginning stood in.
        for token in tuple(found):
            found.update(
                token[:length] for length in self._lengths[token[0]] if token[:length] in self._ids
            )
        return sorted(found, key=lambda token: (-len(token.encode(errors="replace")), token))

    def _cut(self, fragments: list[Fragment], token: str) -> Iterator[Fragment]:
        token_id = self._ids[token]
        strip = token_id in self._strip_after
        for fragment in fragments:
            if isinstance(fragment, int):
                yield fragment
                continue
            before, *others = fragment.split(token)
            if before:
                yield before
            for piece in others:
                yield token_id
                kept = piece.lstrip(_ASCII_BLANKS) if strip else piece
                if kept:
                    yield kept


def _start_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """Matches the first character of whatever begins like a token, by its first two."""
    seconds: dict[str, set[str]] = {}
    for token in tokens:
        seconds.setdefault(token[0], set()).add(token[1:2])
    starts = []
    for first, after in sorted(seconds.items()):
        follow = "" if "" in after else f"(?=[{re.escape(''.join(sorted(after)))}])"
        starts.append(re.escape(first) + follow)
    return re.compile("|".join(starts))
