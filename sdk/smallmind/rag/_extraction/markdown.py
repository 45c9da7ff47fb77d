"""Markdown: is its own text, cut into sections at the headings that markdown-it finds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from smallmind.rag._documents import ExtractedText
from smallmind.rag._extraction.decoding import decoded
from smallmind.rag._extraction.sections import sections_at
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import MissingExtraError

if TYPE_CHECKING:
    from markdown_it.token import Token


def extract_markdown(data: bytes, limit: WorkLimit) -> ExtractedText:
    """The source as it is, so that ranges point into the file's own characters.

    Raises:
        MissingExtraError: markdown-it-py is not installed.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise MissingExtraError("rag", "reading Markdown") from error
    limit.check("reading Markdown")
    text = decoded(data)
    headings = list(_headings(MarkdownIt("commonmark").parse(text), text))
    title = next((words for _, level, words in headings if level == 1), "")
    return ExtractedText(text, title, sections_at(text, headings))


def _headings(tokens: list[Token], text: str) -> Iterator[tuple[int, int, str]]:
    lines = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))
    for opening, inline in pairwise(tokens):
        # Those inside of quotes and lists do not begin a section.
        if opening.type == "heading_open" and opening.level == 0 and opening.map is not None:
            words = "".join(child.content for child in inline.children or ())
            yield lines[opening.map[0]], int(opening.tag[1:]), words or inline.content
