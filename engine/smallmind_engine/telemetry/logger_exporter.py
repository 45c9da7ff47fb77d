"""Brings the bus to a ``RuntimeLogger``: ``load(..., logger=ConsoleRuntimeLogger())``."""

from __future__ import annotations

from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.exporter import FlushResult
from smallmind_engine.telemetry.kinds import EventKind
from smallmind_engine.telemetry.log_rendering import NOTABLE_KINDS, as_log_event
from smallmind_engine.telemetry.logger import RuntimeLogger


class LoggerExporter:
    """Gives log events, and notable lifecycle events in the words of a log, to a logger.

    Args:
        logger: receives them.
        lifecycle: also tell of loading, requests, degradations and the like.
        inline: call the logger in the publishing thread; only for one that never waits.
        name: of the exporter.
    """

    def __init__(
        self,
        logger: RuntimeLogger,
        *,
        lifecycle: bool = True,
        inline: bool = False,
        name: str = "logger",
    ) -> None:
        self._logger = logger
        self._closed = False
        self.name = name
        self.inline = inline
        self.interests = EventKind.LOG | (NOTABLE_KINDS if lifecycle else 0)

    def export(self, event: Event, /) -> None:
        """Pass the event on if the logger wants its level."""
        if self._closed:
            return
        log_event = as_log_event(event)
        if log_event is not None and self._logger.is_enabled(log_event.level):
            self._logger.log_event(log_event)

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """Nothing is held back here."""
        return FlushResult()

    def close(self) -> None:
        """Give the logger nothing more; it stays the caller's."""
        self._closed = True
