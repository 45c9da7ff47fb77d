"""Citations: the marks [S1] of an answer, and the exact characters that they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_MARKS: Final = re.compile(r"\[\s*(S\d{1,3}(?:\s*[,;]\s*S\d{1,3})*)\s*\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Citation:
    """A source of an answer.

    Attributes:
        mark: as it stands in the answer and in the prompt, such as ``S1``.
        collection: of its document.
        source: name of its document within the collection.
        title: what the document calls itself; may be empty.
        heading: of its section; may be empty.
        page: number of the page it begins on, from 1; None without pages.
        start: its first character in the document's extracted text.
        end: the character after its last one.
        text: the characters between, as they were when the answer was made.
        content_hash: SHA-256 of the document's bytes then.
    """

    mark: str
    collection: str
    source: str
    title: str
    heading: str
    page: int | None
    start: int
    end: int
    text: str
    content_hash: str

    @property
    def location(self) -> str:
        """Where it is, for people: ``guide.pdf, page 3, characters 120-480``."""
        page = "" if self.page is None else f", page {self.page}"
        return f"{self.source}{page}, characters {self.start}-{self.end}"


def marks_in(answer: str) -> tuple[str, ...]:
    """The marks of an answer, each once, in the order of their first use."""
    found = (
        mark.strip().upper()
        for group in _MARKS.findall(answer)
        for mark in re.split(r"[,;]", group)
    )
    return tuple(dict.fromkeys(found))


def cited(answer: str, sources: Sequence[Citation]) -> tuple[tuple[Citation, ...], tuple[str, ...]]:
    """The sources that an answer cites, and its marks that stand for none of them."""
    by_mark = {source.mark: source for source in sources}
    marks = marks_in(answer)
    known = tuple(by_mark[mark] for mark in marks if mark in by_mark)
    return known, tuple(mark for mark in marks if mark not in by_mark)
