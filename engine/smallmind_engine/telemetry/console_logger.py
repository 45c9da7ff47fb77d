"""Log events as lines on a terminal or in a file."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime
from typing import TextIO

from smallmind_engine.telemetry.clock import ANCHOR
from smallmind_engine.telemetry.events import LogLevel, RuntimeLogEvent
from smallmind_engine.telemetry.fork import renew_in_child
from smallmind_engine.telemetry.text import message_text, pairs_text, value_text


class ConsoleRuntimeLogger:
    """Writes one line per event: time (UTC), level, component, message, properties and ids.

    Thread-safe.

    Whatever a value holds, an event stays one line: values with spaces, quotes or control
    characters are quoted and escaped.

    Args:
        min_level: events below it are left out.
        stream: where to write; ``sys.stderr`` as it is at the time of each event when None.
    """

    def __init__(self, min_level: LogLevel = LogLevel.INFO, stream: TextIO | None = None) -> None:
        self._min_level = min_level
        self._stream = stream
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin with a free lock, as in a forked child."""
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()

    def is_enabled(self, level: LogLevel, /) -> bool:
        """Whether ``level`` is at least the lowest one to be shown."""
        return level >= self._min_level

    def log_event(self, event: RuntimeLogEvent, /) -> None:
        """Write one line."""
        if event.level < self._min_level:
            return
        # A process without a terminal (pythonw) has no stderr.
        stream: TextIO | None = self._stream if self._stream is not None else sys.stderr
        if stream is None:
            return
        line = log_line(event) + "\n"
        with self._lock:
            try:
                stream.write(line)
            except UnicodeEncodeError:
                stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))


def log_line(event: RuntimeLogEvent) -> str:
    """An event as one line, without the line's end."""
    ids = event.correlation
    pairs: list[tuple[str, object]] = list(event.properties.items())
    if event.reason is not None:
        pairs.append(("reason", event.reason.value))
    if event.error is not None:
        pairs.append(("error", event.error))
    pairs.append(("request_id", ids.request_id))
    if ids.session_id is not None:
        pairs.append(("session_id", ids.session_id))
    pairs.append(("trace_id", ids.trace_id))
    return (
        f"{utc_time(event.time_ns)} {event.level.name:<5} {value_text(event.component)}: "
        f"{message_text(event.message)} {pairs_text(pairs)}"
    )


def utc_time(time_ns: int) -> str:
    """An event's time as ISO 8601 with microseconds, in UTC."""
    seconds, rest_ns = divmod(ANCHOR.to_wall_ns(time_ns), 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"
