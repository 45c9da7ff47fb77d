"""Following a log that is still being written, over its rotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from io import FileIO
from pathlib import Path
from typing import Final

from smallmind_engine.telemetry.eventlog.reading import in_our_time, parsed
from smallmind_engine.telemetry.eventlog.records import Record

_READ_BYTES: Final = 2**16


def follow(path: Path, wait: Callable[[], bool]) -> Iterator[Record]:
    """The records of the file at ``path``, and those that are added, as they come.

    A file that does not exist yet is waited for; when another takes its place, the rest of the
    old one is read first, then the new one from its beginning.

    Args:
        path: of the latest file of a log.
        wait: called when there is nothing new; answers whether to go on.
    """
    return in_our_time(_following(path, wait))


def _following(path: Path, wait: Callable[[], bool]) -> Iterator[Record]:
    while True:
        try:
            file = path.open("rb", buffering=0)
        except OSError:
            if not wait():
                return
            continue
        with file:
            if not (yield from _to_its_end(file, path, wait)):
                return


def _to_its_end(
    file: FileIO, path: Path, wait: Callable[[], bool]
) -> Generator[Record, None, bool]:
    """Read until another file stands at ``path``; answers False when ``wait`` said to end."""
    rest, number, replaced = b"", 0, False
    while True:
        read = file.read(_READ_BYTES)
        if read:
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                number += 1
                if line.strip():
                    yield parsed(line, number)
        elif replaced:
            return True
        elif _is_at(file, path):
            if not wait():
                return False
        else:
            # Something may have been written between the last read and the rotation.
            replaced = True


def _is_at(file: FileIO, path: Path) -> bool:
    """Whether ``file`` is still what ``path`` names; while nothing is there it is."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return True
