"""A file of records: each is written whole or not at all, and a file that went away is noticed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # pragma: no cover - a system without such locks
    fcntl = None  # type: ignore[assignment]  # the absence is asked for below

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
_MODE: Final = 0o666  # less the umask, as for any file


class FileInUseError(OSError):
    """Another process writes to the file."""


class RecordFile:
    """Appends records to a file that this process alone writes. Not thread-safe.

    Args:
        path: made when it does not exist.

    Attributes:
        path: as given.
        size: of the file, in bytes.

    Raises:
        FileInUseError: another process holds it.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, _FLAGS, _MODE)
        try:
            self._lock()
            opened = os.fstat(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        self.size = opened.st_size
        self._identity = (opened.st_dev, opened.st_ino)

    def _lock(self) -> None:
        if fcntl is None:  # pragma: no cover - as above
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileInUseError(error.errno, "another process writes to it", str(self.path)) from (
                error
            )

    def write(self, record: bytes) -> None:
        """Append ``record`` whole.

        Raises:
            OSError: it could not be written; then the file is as it was.
        """
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            if len(rest) < len(record):
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self.size)
            raise
        self.size += len(record)

    @property
    def in_place(self) -> bool:
        """Whether the path still leads to this file: it was not deleted, moved or replaced."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - hot
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def close(self) -> None:
        """Let go of the file. May be called more than once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def of_process(path: Path) -> Path:
    """The name of this process's own file beside ``path``: ``events.1234.jsonl``."""
    return path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
