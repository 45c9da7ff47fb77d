"""Streamed text in lines that break between words."""

from __future__ import annotations

import re
from typing import Final

_PIECES: Final = re.compile(r"\n|[^\S\n]+|\S+")


class WordWrap:
    """Breaks text that comes in pieces; a word appears when it is whole.

    Args:
        width: columns of a line.
        indent: stands before every line.
    """

    def __init__(self, width: int, indent: str = "") -> None:
        self._room = max(1, width - len(indent))
        self._indent = indent
        self._column = 0
        self._gap = ""
        self._held = ""

    def feed(self, text: str) -> str:
        """The next piece of text; answers with what can be shown now."""
        text = self._held + text
        whole = max(text.rfind(" "), text.rfind("\n"), text.rfind("\t")) + 1
        self._held = text[whole:]
        return self._laid_out(text[:whole])

    def end(self) -> str:
        """What was held back."""
        text, self._held = self._held, ""
        return self._laid_out(text)

    def _laid_out(self, text: str) -> str:
        shown = []
        for piece in _PIECES.findall(text):
            if piece == "\n":
                shown.append("\n")
                self._column, self._gap = 0, ""
            elif piece.isspace():
                self._gap += piece if self._column else ""
            else:
                shown.append(self._word(piece))
        return "".join(shown)

    def _word(self, word: str) -> str:
        if self._column and self._column + len(self._gap) + len(word) > self._room:
            before = "\n" + self._indent
            self._column = len(word)
        elif self._column:
            before = self._gap
            self._column += len(self._gap) + len(word)
        else:
            before = self._indent
            self._column = len(word)
        self._gap = ""
        return before + word
