"""What a person types, or a pipe brings: one message at a time, over several lines if need be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

PROMPT: Final = ">>> "
CONTINUED: Final = "... "
_FENCE: Final = '"""'
_CONTINUES: Final = "\\"


def read_message(read_line: Callable[[str], str]) -> str:
    r"""The next message.

    A line that ends with ``\`` goes on in the next; after ``\"\"\"`` the message lasts until the
    next ``\"\"\"``, line breaks and all.

    Args:
        read_line: the next line, without its end; gets the prompt to show.

    Raises:
        EOFError: nothing follows.
    """
    line = read_line(PROMPT)
    if line.lstrip().startswith(_FENCE):
        return _fenced(line.lstrip().removeprefix(_FENCE), read_line)
    lines = [line]
    while lines[-1].endswith(_CONTINUES):
        lines[-1] = lines[-1].removesuffix(_CONTINUES)
        lines.append(_line_or_end(read_line))
    return "\n".join(lines)


def _fenced(line: str, read_line: Callable[[str], str]) -> str:
    lines = []
    while True:
        text, closing, _ = line.partition(_FENCE)
        lines.append(text)
        if closing:
            return "\n".join(lines).strip("\n")
        try:
            line = read_line(CONTINUED)
        except EOFError:
            return "\n".join(lines).strip("\n")


def _line_or_end(read_line: Callable[[str], str]) -> str:
    try:
        return read_line(CONTINUED)
    except EOFError:
        return ""


def line_reader(*, typed: bool, shown: bool) -> Callable[[str], str]:
    """How to read lines.

    Args:
        typed: whether a person types them; then there is a prompt.
        shown: whether the standard output is a terminal, so that lines can be edited.
    """
    if typed and shown:
        return input

    def read(prompt: str) -> str:
        if typed:  # the answers go elsewhere: the prompt must not go with them
            sys.stderr.write(prompt)
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    return read
