"""PDF: the text of its pages, one after the other; read by pypdf."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from smallmind.rag._documents import ExtractedText, Section
from smallmind.rag._errors import DocumentError
from smallmind.rag._extraction.decoding import tidy
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import MissingExtraError, ReasonCode, SmallMindError

if TYPE_CHECKING:
    from pypdf import PdfReader

_BETWEEN_PAGES: Final = "\n\n"


def extract_pdf(data: bytes, limit: WorkLimit) -> ExtractedText:
    """The text of all pages; ranges point into it, and it is known where each page begins.

    Raises:
        DocumentError: it is damaged or encrypted.
        MissingExtraError: pypdf is not installed.
    """
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise MissingExtraError("rag", "reading PDF") from error
    try:
        return _read(PdfReader(io.BytesIO(data), strict=False), limit)
    except SmallMindError:
        raise
    except Exception as error:
        # A damaged file makes the parser fail in ways that it does not list.
        raise DocumentError(
            ReasonCode.RAG_SOURCE_UNREADABLE,
            f"the PDF cannot be read: {type(error).__name__}: {error}",
            hint="open it in a viewer: it is damaged or of an unusual kind",
        ) from error


def _read(reader: PdfReader, limit: WorkLimit) -> ExtractedText:
    if reader.is_encrypted and not reader.decrypt(""):
        raise DocumentError(
            ReasonCode.RAG_SOURCE_UNREADABLE,
            "the PDF is encrypted and needs a password",
            hint="index a copy without one",
        )
    parts: list[str] = []
    starts: list[int] = []
    length = 0
    for page in reader.pages:
        limit.check("reading PDF")
        if parts:
            length += len(_BETWEEN_PAGES)
        starts.append(length)
        text = tidy(page.extract_text().replace("\r\n", "\n").replace("\r", "\n").rstrip())
        parts.append(text)
        length += len(text)
    title = "" if reader.metadata is None else reader.metadata.title or ""
    text = _BETWEEN_PAGES.join(parts)
    section = Section(0, len(text), "")
    return ExtractedText(text, " ".join(tidy(str(title)).split()), (section,), tuple(starts))
