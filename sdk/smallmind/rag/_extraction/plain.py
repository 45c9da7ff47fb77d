"""Plain text: is its own text."""

from __future__ import annotations

from smallmind.rag._documents import ExtractedText, Section
from smallmind.rag._extraction.decoding import decoded
from smallmind_engine.control import WorkLimit


def extract_plain(data: bytes, limit: WorkLimit) -> ExtractedText:
    """The text as it is; ranges point into the file's own characters."""
    limit.check("reading text")
    text = decoded(data)
    return ExtractedText(text, "", (Section(0, len(text), ""),))
