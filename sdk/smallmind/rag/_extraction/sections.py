"""Cuts a text into sections at its headings."""

from __future__ import annotations

from collections.abc import Iterable

from smallmind.rag._documents import Section

_BETWEEN = " > "


def sections_at(text: str, headings: Iterable[tuple[int, int, str]]) -> tuple[Section, ...]:
    """Sections that together are the whole text.

    Args:
        text: what is cut.
        headings: where each begins, its level from 1, and its words; in the order of the text.
    """
    path: list[tuple[int, str]] = []
    sections: list[Section] = []
    start, heading = 0, ""
    for at, level, words in headings:
        if at > start:
            sections.append(Section(start, at, heading))
        path = [(above, name) for above, name in path if above < level]
        path.append((level, " ".join(words.split())))
        start, heading = at, _BETWEEN.join(name for _, name in path if name)
    if len(text) > start or not sections:
        sections.append(Section(start, len(text), heading))
    return tuple(sections)
