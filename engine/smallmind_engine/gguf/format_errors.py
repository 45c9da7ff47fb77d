"""One place where complaints about GGUF bytes are worded: file, offset, what was found."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Final

from smallmind_engine.telemetry.errors import GgufFormatError
from smallmind_engine.telemetry.reasons import ReasonCode

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(value: object) -> str:
    """``repr`` of a value that came from a file, cut short before it is built, not after."""
    return _SHORT.repr(value)


def format_error(
    reason: ReasonCode,
    path: Path,
    offset: int,
    found: str,
    *,
    hint: str = "",
    **details: object,
) -> GgufFormatError:
    """A ``GgufFormatError`` that names the file and the byte.

    Args:
        reason: the code.
        path: of the file.
        offset: byte in the file at which the fault was seen.
        found: what was found, and what was expected.
        hint: what to do about it.
        details: further values for programs.
    """
    return GgufFormatError(
        reason,
        f"{path}: at byte {offset}: {found}",
        hint=hint,
        path=path,
        offset=offset,
        **details,
    )
