"""HTML: the text that a reader sees, cut into sections at its headings; parsed by selectolax."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from smallmind.rag._documents import ExtractedText
from smallmind.rag._extraction.decoding import decoded, tidy
from smallmind.rag._extraction.sections import sections_at
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import MissingExtraError

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

_UNSEEN: Final = ("script", "style", "noscript", "template", "svg", "head", "iframe", "object")
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_BLOCKS: Final = """
    address article aside blockquote body details dialog div dl fieldset figcaption figure footer
    form h1 h2 h3 h4 h5 h6 header hr main nav ol p pre section table ul
"""
_PARAGRAPHS: Final = frozenset(_BLOCKS.split())
_LINES: Final = frozenset({"br", "li", "dt", "dd", "tr", "caption", "option", "summary"})
_CELLS: Final = frozenset({"td", "th"})
_WIDTHS: Final = {"": 0, " ": 1, "\n": 2, "\n\n": 3}
_SPACE: Final = re.compile(r"[ \t\n\r\f\v\u00a0]+")
_NODES_BETWEEN_CHECKS: Final = 1024


def extract_html(data: bytes, limit: WorkLimit) -> ExtractedText:
    """What a reader sees; ranges point into this text, not into the markup.

    Raises:
        MissingExtraError: selectolax is not installed.
    """
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError as error:
        raise MissingExtraError("rag", "reading HTML") from error
    limit.check("reading HTML")
    tree = LexborHTMLParser(decoded(data, declares=True))
    named = tree.css_first("title")
    title = "" if named is None else " ".join(named.text().split())
    tree.strip_tags(list(_UNSEEN))
    written = _Written()
    if tree.body is not None:
        _walk(tree.body, written, limit)
    text = tidy("".join(written.parts).rstrip())
    return ExtractedText(text, tidy(title), sections_at(text, _headings_of(written, text)))


class _Written:
    """The text so far, with white space as a reader sees it."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.headings: list[tuple[int, int, int]] = []
        self._wanted = ""
        self._preformatted = 0

    def break_with(self, separator: str) -> None:
        """Separate what comes from what was; the widest separator wins."""
        if _WIDTHS[separator] > _WIDTHS[self._wanted]:
            self._wanted = separator

    def enter(self, tag: str) -> int:
        """An element begins; answers where its text will begin."""
        self._preformatted += tag == "pre"
        self._break_at(tag)
        return self.length + (len(self._wanted) if self.parts else 0)

    def leave(self, tag: str, began: int) -> None:
        """An element ends."""
        self._preformatted -= tag == "pre"
        if tag in _HEADINGS and self.length > began:
            self.headings.append((began, self.length, _HEADINGS[tag]))
        self._break_at(tag)

    def _break_at(self, tag: str) -> None:
        if tag in _PARAGRAPHS:
            self.break_with("\n\n")
        elif tag in _LINES:
            self.break_with("\n")
        elif tag in _CELLS:
            self.break_with(" ")

    def add(self, text: str) -> None:
        """Text of the document."""
        if self._preformatted:
            self._put(text.lstrip("\n") if "\n" in self._wanted else text)
            return
        words = _SPACE.sub(" ", text)
        if words.startswith(" "):
            self.break_with(" ")
        if words.strip():
            self._put(words.strip(" "))
            if words.endswith(" "):
                self.break_with(" ")

    def _put(self, text: str) -> None:
        if not text:
            return
        lead = self._wanted if self.parts else ""
        self._wanted = ""
        self.parts.append(lead + text)
        self.length += len(lead) + len(text)


def _walk(root: LexborNode, written: _Written, limit: WorkLimit) -> None:
    """Go through the tree without recursion: documents may be nested as deep as they like."""
    open_elements: list[tuple[str, int, Iterator[LexborNode]]] = []

    def enter(node: LexborNode) -> None:
        tag = node.tag or ""
        children = node.iter(include_text=True)
        open_elements.append((tag, written.enter(tag), children))

    enter(root)
    seen = 0
    while open_elements:
        seen += 1
        if seen % _NODES_BETWEEN_CHECKS == 0:
            limit.check("reading HTML")
        tag, began, children = open_elements[-1]
        child = next(children, None)
        if child is None:
            open_elements.pop()
            written.leave(tag, began)
        elif child.tag == "-text":
            written.add(child.text_content or "")
        elif child.tag is not None and not child.tag.startswith(("-", "!")):
            enter(child)


def _headings_of(written: _Written, text: str) -> Iterator[tuple[int, int, str]]:
    for began, ended, level in written.headings:
        yield began, level, text[began:ended]
