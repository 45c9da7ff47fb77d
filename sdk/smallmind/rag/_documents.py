"""Documents, the text taken out of them, and the chunks that the text is cut into."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document to index.

    Attributes:
        source: its name within the collection, such as a path with slashes.
        read: gives its bytes; called at most once, and only while it is indexed.
        labels: what a user must hold to see it; empty for a public one.
        size_bytes: how large it is when that is known beforehand.
    """

    source: str
    read: Callable[[], bytes]
    labels: frozenset[str] = frozenset()
    size_bytes: int | None = None


class DocumentSource(Protocol):
    """Gives all documents of a collection."""

    @property
    def collection(self) -> str:
        """Name of the collection. Documents that it no longer gives are deleted from the index."""
        ...

    def documents(self) -> Iterable[SourceDocument]:
        """All of them, in an order that stays the same."""
        ...


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a text under one heading.

    Attributes:
        start: first character.
        end: the character after the last one.
        heading: the headings above it, outermost first, joined with ``" > "``; may be empty.
    """

    start: int
    end: int
    heading: str


@dataclass(frozen=True, slots=True)
class ExtractedText:
    """The text of a document. All character ranges of the index point into ``text``.

    Attributes:
        text: lines end with a line feed, and there is no NUL.
        title: what the document calls itself; empty when it does not.
        sections: one after the other, from the first character to the last.
        page_starts: the first character of each page, for formats with pages.
    """

    text: str
    title: str
    sections: tuple[Section, ...]
    page_starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text: ``text[start:end]`` of what was extracted, without outer white space.

    Attributes:
        start: first character.
        end: the character after the last one.
        text: the characters between.
        heading: of the section it is from.
        tokens: as counted when it was cut.
        page: number of the page it begins on, from 1; None without pages.
    """

    start: int
    end: int
    text: str
    heading: str
    tokens: int
    page: int | None = None
