"""Finds sentences: where a text may be cut without tearing a thought apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import regex

_BOUNDARY: Final = regex.compile(
    r"""
      \n[^\S\n]*\n\s*                                  # a blank line
    | \n(?=[^\S\n]*(?:[-*+•]|\d{1,3}[.)]|\#{1,6}|\|)\s) # a list item, heading or row of a table
    | (?<=[.!?…]["')\]»”’*_]{0,3})\s+                  # the end of a sentence ...
      (?=["'(\[«“‘*_`]{0,3}[\p{Lu}\p{Lt}\p{Lo}\p{N}])  # ... before what begins one
    | (?<=[。！？])\s*(?=\S)
    """,  # noqa: RUF001 - the full-width marks end sentences of Chinese and Japanese
    regex.VERBOSE,
)
_LAST_WORD: Final = regex.compile(r"[\p{L}.]+$")
_LONGEST_ABBREVIATION: Final = 12
_ABBREVIATED: Final = """
    adj adm al approx apr art aug ave bros ca capt cf ch col corp dec dept dr e.g ed eq est et etc
    feb fig figs gen gov hon i.e inc jan jr jul jun ltd mar max min mr mrs ms no nos nov oct op pp
    prof ref refs rep rev sec sen sep sept sr st tab u.k u.s univ vol vols vs
"""
_ABBREVIATIONS: Final = frozenset(_ABBREVIATED.split())


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences of ``text[start:end]``, as character ranges without outer white space.

    What lies between two of them is white space. Blank lines, list items, headings and rows of
    tables end a sentence too.
    """
    at = start
    for boundary in _BOUNDARY.finditer(text, start, end):
        if boundary.start() > at and not _abbreviates(text, at, boundary):
            yield from _trimmed(text, at, boundary.start())
            at = boundary.end()
    yield from _trimmed(text, at, end)


def _abbreviates(text: str, begin: int, boundary: regex.Match[str]) -> bool:
    """Whether the full stop before a boundary belongs to a word such as "Dr." or an initial."""
    at = boundary.start()
    if "\n\n" in boundary[0] or text[at - 1] != ".":
        return False
    word = _LAST_WORD.search(text, max(begin, at - _LONGEST_ABBREVIATION), at - 1)
    if word is None:
        return False
    letters = word[0]
    initial = len(letters) == 1 and letters.isupper()
    return initial or letters.casefold() in _ABBREVIATIONS


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    if right > left:
        yield start + left, start + right
