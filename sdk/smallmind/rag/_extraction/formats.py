"""Which parser reads which file: a table by the end of the name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from smallmind.rag._documents import ExtractedText
from smallmind.rag._errors import DocumentError
from smallmind.rag._extraction.html import extract_html
from smallmind.rag._extraction.markdown import extract_markdown
from smallmind.rag._extraction.pdf import extract_pdf
from smallmind.rag._extraction.plain import extract_plain
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import ReasonCode

Extractor = Callable[[bytes, WorkLimit], ExtractedText]
"""Takes the text out of the bytes of a document; stops when the limit says so."""

EXTRACTORS: Final[Mapping[str, Extractor]] = MappingProxyType(
    {
        ".txt": extract_plain,
        ".text": extract_plain,
        ".log": extract_plain,
        ".rst": extract_plain,
        ".json": extract_plain,
        ".md": extract_markdown,
        ".markdown": extract_markdown,
        ".html": extract_html,
        ".htm": extract_html,
        ".xhtml": extract_html,
        ".pdf": extract_pdf,
    }
)
"""By the end of the name, in lower case."""


def extractor_of(source: str, extractors: Mapping[str, Extractor]) -> Extractor | None:
    """What reads a document of this name; None for one that nothing reads."""
    name = source.rpartition("/")[2].casefold()
    dot = name.rfind(".")
    return extractors.get(name[dot:]) if dot > 0 else None


def extract(
    source: str, data: bytes, limit: WorkLimit, extractors: Mapping[str, Extractor] = EXTRACTORS
) -> ExtractedText:
    """The text of a document.

    Raises:
        DocumentError: nothing reads documents of this name, or it is damaged.
        MissingExtraError: its parser is not installed.
        OperationCancelledError: the limit was reached.
    """
    extractor = extractor_of(source, extractors)
    if extractor is None:
        raise DocumentError(
            ReasonCode.RAG_SOURCE_UNREADABLE,
            f"nothing reads {source!r}; known are {', '.join(sorted(extractors))}",
            source=source,
        )
    return extractor(data, limit)
