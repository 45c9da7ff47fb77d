"""Writes lines to the host's structlog."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Final, Self

from smallmind_engine.telemetry import (
    Event,
    EventKind,
    FlushResult,
    LogLevel,
    RuntimeLogEvent,
    renew_in_child,
)
from smallmind_engine.telemetry.errors import MissingExtraError
from smallmind_engine.telemetry.stdlib_logging import HOST_PREFIX
from smallmind_exporters.structured.lines import NOTABLE, line_of

# The methods of every structlog logger; trace is none of them.
_METHODS: Final = {
    LogLevel.TRACE: "debug",
    LogLevel.DEBUG: "debug",
    LogLevel.INFO: "info",
    LogLevel.WARN: "warning",
    LogLevel.ERROR: "error",
}


class StructlogExporter:
    """One canonical line for each request, and one for each notable event, by structlog.

    Thread-safe; ``export`` is called by one thread of its own.

    How lines look is the host's to say: its configuration of structlog is used as it is at each
    line, and never changed. Ids are on each line, because the line is written from a thread of
    the bus, where the host's context variables are not. No line breaks out of its line, whatever
    a value holds.

    A processor that raises is an error of this exporter: it is counted, told once, and after
    five in a row the exporter is detached. No request notices.

    Args:
        logger: a structlog logger; None for ``structlog.get_logger("smallmind")``.
        notable: whether notable events have lines, besides the requests.

    Raises:
        MissingExtraError: ``structlog`` is not installed.
    """

    name: Final = "structlog"
    inline: Final = False

    def __init__(self, logger: Any = None, *, notable: bool = True) -> None:
        try:
            import structlog
        except ModuleNotFoundError as error:
            raise MissingExtraError("structlog", "the structlog exporter") from error
        self._logger = structlog.get_logger("smallmind") if logger is None else logger
        self._closed = False
        self.interests: Final = EventKind.INFERENCE_STOPPED | (NOTABLE if notable else 0)
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Count from zero, as in a forked child."""
        self._lock = threading.RLock()
        self._delivered = 0

    def export(self, event: Event, /) -> None:
        """Write the event's line, if it has one."""
        if self._closed:
            return
        if not _is_the_hosts_own(event):
            line = line_of(event)
            if line is not None:
                getattr(self._logger, _METHODS[line.level])(line.event, **line.values)
        with self._lock:
            self._delivered += 1

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """Nothing is held back: each line is written as its event comes."""
        return FlushResult(delivered=self._delivered)

    def close(self) -> None:
        """Write no more."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _is_the_hosts_own(event: Event) -> bool:
    """Records of the host's ``logging`` that went over the bus are in its log already."""
    return isinstance(event, RuntimeLogEvent) and event.component.startswith(HOST_PREFIX)
