"""Text for log lines: whatever a value holds, it stays on its line and inside its quotes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_CHARS: Final = 2000

_BARE_VALUE: Final = re.compile(r'[^\s="\\]+')
_BARE_MESSAGE: Final = re.compile(r'[^="\\]+')


def safe_str(value: object) -> str:
    """``str(value)``, or a note of its type when that fails."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything
        return f"<unprintable {type(value).__name__}>"


def describe_error(error: BaseException) -> str:
    """An exception as ``Type: message``."""
    return f"{type(error).__name__}: {safe_str(error)}"


def message_text(message: str) -> str:
    """A message as it is, or quoted when it could be mistaken for something else."""
    return _bare_or_quoted(message, _BARE_MESSAGE)


def value_text(value: object) -> str:
    """A value as it is, or quoted when it could be mistaken for something else."""
    return _bare_or_quoted(safe_str(value), _BARE_VALUE)


def pairs_text(pairs: Iterable[tuple[str, object]]) -> str:
    """``key=value`` pairs, separated by spaces."""
    return " ".join(f"{value_text(key)}={value_text(value)}" for key, value in pairs)


def _bare_or_quoted(text: str, bare: re.Pattern[str]) -> str:
    left_out = len(text) - MAX_CHARS
    if left_out > 0:
        text = f"{text[:MAX_CHARS]}...(+{left_out})"
    if bare.fullmatch(text) and text.isprintable():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(map(_visible, escaped)) + '"'


def _visible(char: str) -> str:
    """The character, or its escape when a terminal or a reader of lines would act on it."""
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
