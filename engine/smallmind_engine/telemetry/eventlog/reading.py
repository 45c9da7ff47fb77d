"""Reading a log of events: a file, or all files that one process wrote in turn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from smallmind_engine.telemetry.clock import ANCHOR, ClockAnchor
from smallmind_engine.telemetry.errors import EventLogError
from smallmind_engine.telemetry.eventlog.coding import UnknownEventError
from smallmind_engine.telemetry.eventlog.records import (
    LOG_SCHEMA,
    LogHeader,
    Record,
    Unreadable,
    record_from,
)
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.reasons import ReasonCode

MAX_LINE_BYTES: Final = 64 * 2**20
"""Longer lines are passed by: a snapshot takes some tens of kilobytes."""


def parsed(line: bytes, number: int, *, whole: bool = True) -> Record:
    """What one line holds; lines that cannot be used are ``Unreadable``, never an error.

    Args:
        line: with or without its line break.
        number: of the line in its file, from 1.
        whole: whether it ended with a line break.
    """
    try:
        record = record_from(json.loads(line))
    except UnknownEventError as error:
        return Unreadable(number, str(error), unknown=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Unreadable(number, f"{type(error).__name__}: {error}"[:200], torn=not whole)
    if record is None:
        return Unreadable(number, "an unknown kind of record", unknown=True)
    return record


def read_file(path: Path) -> Iterator[Record]:
    """The records of one file.

    Raises:
        EventLogError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield from _records(file)
    except OSError as error:
        raise _unreadable(path, f"{type(error).__name__}: {error.strerror}") from error


def _records(file: BinaryIO) -> Iterator[Record]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        whole = line.endswith(b"\n")
        if not whole and len(line) == MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)
            yield Unreadable(number, f"a line of more than {MAX_LINE_BYTES} bytes")
        elif line.strip():
            yield parsed(line, number, whole=whole)


def rotated(path: Path, number: int) -> Path:
    """Where the file goes that was written ``number`` files before the one at ``path``."""
    return path.with_name(f"{path.name}.{number}")


@dataclass(frozen=True, slots=True)
class EventLog:
    """The files that one process wrote, oldest first.

    Attributes:
        paths: of the files.
        header: of the first of them.
    """

    paths: tuple[Path, ...]
    header: LogHeader

    @classmethod
    def open(cls, path: Path | str) -> EventLog:
        """The log whose latest file is at ``path``.

        Older files of the same process, ``path.1``, ``path.2`` and so on, belong to it; those of
        other processes do not.

        Raises:
            EventLogError: there is no such file, it is no log of events, or it was written by a
                version whose format this one does not know.
        """
        latest = Path(path)
        paths, header = [latest], _header_of(latest)
        number = 1
        while header.part > 1 and rotated(latest, number).exists():
            older = _header_of(rotated(latest, number))
            if (older.run, older.part) != (header.run, header.part - 1):
                break
            paths.insert(0, rotated(latest, number))
            header = older
            number += 1
        return cls(tuple(paths), header)

    @property
    def whole(self) -> bool:
        """Whether the log reaches back to the first event of its process."""
        return self.header.part == 1

    def records(self) -> Iterator[Record]:
        """All records in the order of writing, with the times of this process's clock.

        Raises:
            EventLogError: a file cannot be read.
        """
        for path in self.paths:
            yield from in_our_time(read_file(path))

    def events(self) -> Iterator[Event]:
        """The events alone."""
        return (record for record in self.records() if isinstance(record, Event))


def in_our_time(records: Iterable[Record]) -> Iterator[Record]:
    """Events as if this process's clock had timed them: ``ANCHOR`` gives their wall time."""
    shift_ns = 0
    for record in records:
        if isinstance(record, LogHeader):
            shift_ns = _offset(record.anchor) - _offset(ANCHOR)
        if isinstance(record, Event) and shift_ns:
            yield record._replace(time_ns=record.time_ns + shift_ns)  # type: ignore[attr-defined]  # an event is a named tuple
        else:
            yield record


def _offset(anchor: ClockAnchor) -> int:
    return anchor.wall_ns - anchor.monotonic_ns


def _header_of(path: Path) -> LogHeader:
    first = next(iter(read_file(path)), None)
    if not isinstance(first, LogHeader):
        raise _unreadable(path, "its first line is no header of a log of events")
    if first.schema != LOG_SCHEMA:
        raise EventLogError(
            ReasonCode.EVENT_LOG_SCHEMA_UNSUPPORTED,
            f"{path}: written by {first.software} in format {first.schema}",
            hint=f"this version reads format {LOG_SCHEMA}",
            path=str(path),
            schema=first.schema,
        )
    return first


def _unreadable(path: Path, cause: str) -> EventLogError:
    return EventLogError(
        ReasonCode.EVENT_LOG_UNREADABLE,
        f"{path}: {cause}",
        hint="pass a file that the exporter 'jsonl' wrote",
        path=str(path),
    )
