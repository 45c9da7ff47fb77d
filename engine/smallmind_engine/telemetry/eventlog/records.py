"""What a log holds besides events: who wrote it, how the exporters fare, and what was lost."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from smallmind_engine.telemetry.clock import ANCHOR, ClockAnchor
from smallmind_engine.telemetry.eventlog.coding import event_from, to_text
from smallmind_engine.telemetry.eventlog.values import coder_of, mapping
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.exporter import ExporterHealth

LOG_SCHEMA: Final = 1
"""Version of the format. New events, fields and records do not raise it: readers pass them by."""

_MARK: Final = "smallmind_event_log"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHeader:
    """The first line of a file.

    Attributes:
        schema: version of the format.
        software: that wrote it, with its version.
        python: version of Python.
        pid: of the process.
        run: identifies the process's writing over all files of the log.
        part: number of the file in the run, from 1; older ones may be gone.
        anchor: ties the events' ``time_ns`` to wall time.
    """

    schema: int
    software: str
    python: str
    pid: int
    run: str
    part: int
    anchor: ClockAnchor


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How the exporters of the bus fared when it was written."""

    exporters: tuple[ExporterHealth, ...]


@dataclass(frozen=True, slots=True)
class LossReport:
    """Events that could not be written.

    Attributes:
        events: how many, since the last such report.
        cause: the error, in words.
    """

    events: int
    cause: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that cannot be used.

    Attributes:
        line: its number in the file, from 1.
        cause: what is wrong.
        torn: whether it is the last line of its file and not whole: the process died in it.
        unknown: whether it is sound, but of a newer version.
    """

    line: int
    cause: str
    torn: bool = False
    unknown: bool = False


Record = Event | LogHeader | HealthReport | LossReport | Unreadable

_HEADER: Final = coder_of(LogHeader)
_HEALTH: Final = coder_of(tuple[ExporterHealth, ...])
_LOSS: Final = coder_of(LossReport)


def new_header(*, run: str, part: int) -> LogHeader:
    """The header of a file that this process begins now."""
    return LogHeader(
        schema=LOG_SCHEMA,
        software=f"smallmind {_version()}",
        python=platform.python_version(),
        pid=os.getpid(),
        run=run,
        part=part,
        anchor=ANCHOR,
    )


def _version() -> str:
    try:
        return version("smallmind")
    except PackageNotFoundError:
        return "unknown"


def record_line(record: LogHeader | HealthReport | LossReport) -> str:
    """A record that is no event as one line of JSON, without the line break."""
    if isinstance(record, LogHeader):
        return to_text({_MARK: record.schema, **_HEADER.encode(record)})
    if isinstance(record, HealthReport):
        return to_text({"health": _HEALTH.encode(record.exporters)})
    return to_text({"lost": _LOSS.encode(record)})


def record_from(value: object) -> Record | None:
    """What a line holds; None when it is a record that this version does not know.

    Raises:
        UnknownEventError: an event of an unknown type.
        ValueError: it is damaged.
    """
    document: dict[str, Any] = mapping(value)
    if "event" in document:
        return event_from(document)
    if _MARK in document:
        header: LogHeader = _HEADER.decode({**document, "schema": document[_MARK]})
        return header
    if "health" in document:
        return HealthReport(_HEALTH.decode(document["health"]))
    if "lost" in document:
        loss: LossReport = _LOSS.decode(document["lost"])
        return loss
    return None
