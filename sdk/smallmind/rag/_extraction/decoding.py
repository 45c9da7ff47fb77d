"""From bytes to characters: encodings, line ends, and what is no text at all."""

from __future__ import annotations

import codecs
import re
from typing import Final

from smallmind.rag._errors import DocumentError
from smallmind_engine.telemetry import ReasonCode

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FALLBACK: Final = "cp1252"
_DECLARED: Final = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE
)
_DECLARED_WITHIN: Final = 2048


def decoded(data: bytes, *, declares: bool = False) -> str:
    """The characters of ``data``, with line feeds as line ends and without NUL.

    The encoding is that of a byte order mark, else what the document declares, else UTF-8, else
    Windows-1252.

    Args:
        data: the document.
        declares: whether to look for a declaration, as in HTML.

    Raises:
        DocumentError: it is no text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _tidied(data[len(mark) :].decode(encoding, "replace"))
    if b"\0" in data[:8192]:
        raise DocumentError(
            ReasonCode.RAG_SOURCE_UNREADABLE,
            "the document is no text: it holds zero bytes",
            hint="leave it out, or convert it to text",
        )
    if declares:
        found = _DECLARED.search(data[:_DECLARED_WITHIN])
        if found is not None:
            text = _as(data, found[1].decode("ascii", "replace"), "replace")
            if text is not None:
                return _tidied(text)
    text = _as(data, "utf-8", "strict")
    return _tidied(data.decode(_FALLBACK, "replace") if text is None else text)


def _as(data: bytes, encoding: str, errors: str) -> str | None:
    try:
        return data.decode(encoding, errors)
    except (LookupError, UnicodeError):
        return None


def _tidied(text: str) -> str:
    return tidy(text.replace("\r\n", "\n").replace("\r", "\n"))


def tidy(text: str) -> str:
    """Characters that an index cannot hold (NUL, lone surrogates) become U+FFFD, one for one."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join(
            "\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else c for c in text
        )
    return text
