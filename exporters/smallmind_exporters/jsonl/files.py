"""The files of a log: one after the other at the same path, the older ones numbered."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from smallmind_engine.telemetry.eventlog import new_header, record_line, rotated
from smallmind_exporters.record_file import FileInUseError, RecordFile, of_process


class RotatingLog:
    """Writes lines into the file at ``path``; a full one becomes ``path.1``, and so on.

    Every file belongs to one process and begins with a header. What another process left at the
    path is moved aside; a path that another process is writing to is left to it, and the name
    gets the process's id.

    Args:
        path: of the latest file.
        max_bytes: size at which the next file is begun.
        keep_files: how many older files are kept, at least one.

    Attributes:
        path: where it writes.
        part: number of the current file, from 1; 0 before the first.
    """

    def __init__(self, path: Path, *, max_bytes: int, keep_files: int) -> None:
        self.path = path
        self.part = 0
        self._max_bytes = max_bytes
        self._keep_files = keep_files
        self._run = secrets.token_hex(8)
        self._file: RecordFile | None = None

    def ready_for(self, n_bytes: int) -> bool:
        """See to it that there is a file with room; answers whether one was begun just now.

        Raises:
            OSError: there is none.
        """
        file = self._file
        if file is not None:
            if file.in_place and file.size + n_bytes <= self._max_bytes:
                return False
            self.close()
        self._begin()
        return True

    def write(self, *lines: str) -> None:
        """Append lines, all of them or none.

        Raises:
            OSError: they could not be written.
        """
        if self._file is None:
            raise OSError(f"no file is open at {self.path}")
        self._file.write("".join(f"{line}\n" for line in lines).encode("ascii"))

    def close(self) -> None:
        """Let go of the current file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        file = self._opened()
        try:
            if file.size:
                self._move_aside()
                file.close()
                file = RecordFile(self.path)
            file.write(record_line(new_header(run=self._run, part=self.part + 1)).encode() + b"\n")
        except BaseException:
            file.close()
            raise
        self.part += 1
        self._file = file

    def _opened(self) -> RecordFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return RecordFile(self.path)
        except FileInUseError:
            self.path = of_process(self.path)
            return RecordFile(self.path)

    def _move_aside(self) -> None:
        for number in range(self._keep_files, 1, -1):
            younger = rotated(self.path, number - 1)
            if younger.exists():
                os.replace(younger, rotated(self.path, number))  # noqa: PTH105 - an atomic one
        os.replace(self.path, rotated(self.path, 1))  # noqa: PTH105 - as above
