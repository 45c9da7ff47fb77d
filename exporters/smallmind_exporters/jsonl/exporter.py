"""Writes every event as a line of JSON into rotating files, and counts what it could not write."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from smallmind_engine.telemetry import (
    ALL_KINDS,
    Correlation,
    Event,
    EventKind,
    ExporterHealth,
    FlushResult,
    ReasonCode,
    new_correlation,
    now_ns,
    renew_in_child,
)
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.eventlog import HealthReport, LossReport, event_line, record_line
from smallmind_engine.telemetry.text import describe_error
from smallmind_exporters.jsonl.files import RotatingLog
from smallmind_exporters.metrics import MetricStore, snapshot_of
from smallmind_exporters.record_file import of_process

PATH_VARIABLE: Final = "SMALLMIND_JSONL_PATH"
RECORDER_VARIABLE: Final = "SMALLMIND_FLIGHT_RECORDER"
DEFAULT_PATH: Final = "smallmind-events.jsonl"
DEFAULT_MAX_BYTES: Final = 64 * 2**20
DEFAULT_KEEP_FILES: Final = 8
DEFAULT_SNAPSHOT_EVENTS: Final = 10_000

_SWITCHED_ON: Final = frozenset({"1", "true", "yes", "on"})

HealthSource = Callable[[], tuple[ExporterHealth, ...]]


class JsonLinesExporter:
    """A log of events that ``smallmind replay``, ``report`` and ``top`` read.

    An event is in the hands of the operating system when ``export`` returns. When the disk is
    full, or the path cannot be written to, the event is lost, counted, and ``export`` raises for
    the first one in a row; each later event is tried anew, and the log itself tells how many are
    missing. A file that is deleted or moved away is noticed at the next event, and a new one is
    begun. After a fork the child writes a log of its own, named with its process id.

    Args:
        path: of the latest file; ``$SMALLMIND_JSONL_PATH``, or ``smallmind-events.jsonl`` in the
            working directory, when None. The folder is made when it is not there.
        max_bytes: size at which the next file is begun.
        keep_files: how many older files are kept, as ``path.1``, ``path.2`` and so on.
        snapshot_events: how many events lie between two snapshots of the metrics. One is at the
            beginning of each further file, too.
        record_requests: the flight recorder: log what is needed to run each request again; when
            None, as ``$SMALLMIND_FLIGHT_RECORDER`` says. Prompts are only in it when the engine
            has ``capture_content=True``.
        interests: the kinds to log.

    Raises:
        ConfigError: a size or count is out of its range.
    """

    name: Final = "jsonl"
    inline: Final = False

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        keep_files: int = DEFAULT_KEEP_FILES,
        snapshot_events: int = DEFAULT_SNAPSHOT_EVENTS,
        record_requests: bool | None = None,
        interests: int = ALL_KINDS,
    ) -> None:
        _check("max_bytes", max_bytes, least=1)
        _check("keep_files", keep_files, least=1)
        _check("snapshot_events", snapshot_events, least=1)
        chosen = Path(path or os.environ.get(PATH_VARIABLE) or DEFAULT_PATH)
        if record_requests is None:
            record_requests = os.environ.get(RECORDER_VARIABLE, "").lower() in _SWITCHED_ON
        recorded = EventKind.REQUEST_RECORDED if record_requests else 0
        self.interests: Final = interests | recorded
        self._max_bytes = max_bytes
        self._keep_files = keep_files
        self._snapshot_events = snapshot_events
        self._store = MetricStore()
        self._health: tuple[HealthSource, ...] = ()
        self._closed = False
        self._begin(chosen)
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin a log of the child's own, as in a forked child."""
        self._log.close()
        self._begin(of_process(self._log.path))
        self._inherited = True

    def _begin(self, path: Path) -> None:
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()
        self._log = RotatingLog(path, max_bytes=self._max_bytes, keep_files=self._keep_files)
        self._correlation: Correlation = new_correlation()
        self._inherited = False
        self._written = 0
        self._since_snapshot = 0
        self._latest = 0
        self._lost = 0
        self._raised = 0
        self._untold = 0
        self._cause = ""
        self._told_health: tuple[ExporterHealth, ...] = ()

    @property
    def path(self) -> Path:
        """Of the latest file. Another one than asked for where another process writes to that."""
        return self._log.path

    @property
    def lost(self) -> int:
        """Events that could not be written."""
        return self._lost

    def bind_health(self, health: HealthSource, /) -> None:
        """Write down how the exporters of a bus fare; a second bus is told besides the first."""
        if health not in self._health:
            self._health = (*self._health, health)

    def export(self, event: Event, /) -> None:
        """Write one event.

        Raises:
            OSError: it could not be written, the first one in a row.
        """
        with self._lock:
            if self._closed:
                return
            try:
                self._write(event)
            except Exception as error:
                self._lost += 1
                self._untold += 1
                self._cause = describe_error(error)
                self._log.close()
                if self._untold == 1:
                    self._raised += 1
                    raise
            else:
                self._written += 1
                self._untold = 0
            finally:
                # Lost events are counted too, so that the next snapshot makes good for them.
                self._store.take(event)
                self._latest = max(self._latest, event.sequence)

    def _write(self, event: Event) -> None:
        line = event_line(event)
        begun = self._log.ready_for(len(line) + 1)
        before: list[str] = []
        if self._untold:
            before.append(record_line(LossReport(self._untold, self._cause)))
        since = 0 if begun else self._since_snapshot
        if (begun and self._counted_before) or since >= self._snapshot_events:
            before.append(self._snapshot())
            since = 0
        self._log.write(*before, line)
        self._since_snapshot = since + 1

    @property
    def _counted_before(self) -> bool:
        """Whether there is anything that a new file would not tell of itself."""
        return self._inherited or self._store.taken > 0

    def _snapshot(self) -> str:
        return event_line(snapshot_of(self._store, self._latest, now_ns(), self._correlation))

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """Nothing is held back here; tells how many events were written, and how many were not.

        Those that ``export`` raised for are left out: who called it counts them.
        """
        with self._lock:
            self._write_health()
            return FlushResult(delivered=self._written, failed=self._lost - self._raised)

    def _write_health(self) -> None:
        """Write how the exporters fare, when it has changed; without a file it has to wait."""
        if self._closed or not self._written:
            return
        known = tuple(health for source in self._health for health in source())
        if not known or known == self._told_health:
            return
        try:
            self._log.write(record_line(HealthReport(known)))
        except OSError:
            return
        self._told_health = known

    def close(self) -> None:
        """Let go of the file. May be called more than once."""
        with self._lock:
            self._closed = True
            self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _check(name: str, value: int, *, least: int) -> None:
    if value < least:
        raise ConfigError(
            ReasonCode.OPTION_INVALID,
            f"{name} is {value}; it must be at least {least}",
            option=name,
            value=value,
        )
