"""The bridge to the standard library's ``logging``, both ways. Nothing else speaks to it.

The host's configuration decides: no handler is added, no level set, no level name registered.
"""

from __future__ import annotations

import logging  # noqa: TID251 - this file is the bridge that the rule speaks of
from types import TracebackType
from typing import Final, Self

from smallmind_engine.telemetry.bus import EventBus
from smallmind_engine.telemetry.clock import ANCHOR
from smallmind_engine.telemetry.events import Event, LogLevel, RuntimeLogEvent
from smallmind_engine.telemetry.exporter import FlushResult
from smallmind_engine.telemetry.fork import renew_in_child
from smallmind_engine.telemetry.kinds import EventKind
from smallmind_engine.telemetry.log_rendering import NOTABLE_KINDS, as_log_event
from smallmind_engine.telemetry.text import message_text, pairs_text

TRACE: Final = 5
HOST_PREFIX: Final = "logging:"
"""Begins the component of events that came from the host's records."""

_TO_STDLIB: Final = {
    LogLevel.TRACE: TRACE,
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
_FROM_STDLIB: Final = sorted(
    ((number, level) for level, number in _TO_STDLIB.items()), reverse=True
)
_MARK: Final = "smallmind_event"
_STANDARD: Final = frozenset(
    vars(logging.makeLogRecord({})) | dict.fromkeys(("message", "asctime", "taskName"))
)


class StdlibLoggingExporter:
    """Passes log events to ``logging.getLogger("smallmind.<component>")``.

    Thread-safe, as ``logging`` is; ``export`` is called by one thread of its own.

    A record's message is the event's message with its properties as ``key=value``. Its attributes
    hold ``request_id``, ``session_id``, ``trace_id``, ``span_id``, ``reason``, ``error``,
    ``properties`` (a dict), and each property under its own name where that is free. Level trace
    is 5. Time is the event's.

    Args:
        lifecycle: also tell of loading, requests, degradations and the like.
        logger_name: root of the loggers' names.
    """

    def __init__(self, *, lifecycle: bool = True, logger_name: str = "smallmind") -> None:
        self._root = logger_name
        self._closed = False
        self.name = "logging"
        self.inline = False
        self.interests = EventKind.LOG | (NOTABLE_KINDS if lifecycle else 0)
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Count from zero, as in a forked child."""
        self._delivered = 0

    def export(self, event: Event, /) -> None:
        """Give the event to the host's logger if that is enabled for its level."""
        if self._closed:
            return
        self._delivered += 1
        log_event = as_log_event(event)
        if log_event is None or log_event.component.startswith(HOST_PREFIX):
            return
        logger = logging.getLogger(f"{self._root}.{log_event.component}")
        if logger.isEnabledFor(_TO_STDLIB[log_event.level]):
            logger.handle(_record(logger.name, log_event))

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """Nothing is held back here; handlers are the host's."""
        return FlushResult(delivered=self._delivered)

    def close(self) -> None:
        """Log nothing more."""
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


def _record(logger_name: str, event: RuntimeLogEvent) -> logging.LogRecord:
    properties = event.properties
    text = message_text(event.message)
    if properties:
        text = f"{text} {pairs_text(properties.items())}"
    record = logging.LogRecord(
        logger_name, _TO_STDLIB[event.level], "(smallmind)", 0, text, None, None
    )
    _set_time(record, ANCHOR.to_wall_ns(event.time_ns))
    if event.level is LogLevel.TRACE:
        record.levelname = "TRACE"  # registering the name would change the host's logging
    ids = event.correlation
    own = {
        _MARK: event,
        "request_id": ids.request_id,
        "session_id": ids.session_id,
        "trace_id": ids.trace_id,
        "span_id": ids.span_id,
        "reason": None if event.reason is None else event.reason.value,
        "error": event.error,
        "properties": properties,
    }
    vars(record).update({k: v for k, v in properties.items() if k not in _STANDARD} | own)
    return record


def _set_time(record: logging.LogRecord, wall_ns: int) -> None:
    """Date the record at the event rather than at the moment its queue was read."""
    read_at = record.created
    record.created = wall_ns / 1e9
    record.msecs = wall_ns // 1_000_000 % 1000 + 0.0
    record.relativeCreated += (record.created - read_at) * 1000


class BusLoggingHandler(logging.Handler):
    """Publishes the host's records as log events with the current correlation.

    The component is ``logging:`` and the logger's name; up to four of the record's extra
    attributes become properties. Records that came from the bus are left out, so both directions
    may be installed at once.

    Args:
        bus: where to publish.
        level: as for any handler.
    """

    def __init__(self, bus: EventBus, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._bus = bus

    def emit(self, record: logging.LogRecord) -> None:
        """Publish one record."""
        if not self._bus.wants & EventKind.LOG or hasattr(record, _MARK):
            return
        try:
            self._publish(record)
        except Exception:  # noqa: BLE001 - logging's own way: a log call never raises
            self.handleError(record)

    def _publish(self, record: logging.LogRecord) -> None:
        extras = [(k, v) for k, v in vars(record).items() if k not in _STANDARD][:4]
        error = record.exc_info[0] if record.exc_info else None
        emitter = self._bus.emitter()
        message = record.getMessage()
        emitter.publish(
            RuntimeLogEvent(
                *emitter.header(),
                from_stdlib_level(record.levelno),
                HOST_PREFIX + record.name,
                message,
                None,
                None if error is None else error.__name__,
                *(part for pair in extras for part in pair),
            )
        )


def from_stdlib_level(number: int) -> LogLevel:
    """The highest level of ours that is not above one of ``logging``."""
    return next((level for bound, level in _FROM_STDLIB if number >= bound), LogLevel.TRACE)
