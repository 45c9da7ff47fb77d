"""Writes a trace while it happens: what there is can be opened at any moment, and after a crash."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from smallmind_engine.telemetry import ALL_KINDS, Event, FlushResult, ReasonCode, renew_in_child
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.eventlog import rotated, to_text
from smallmind_exporters.chrome_trace.records import Record
from smallmind_exporters.chrome_trace.tracks import Tracks
from smallmind_exporters.record_file import FileInUseError, RecordFile, of_process

PATH_VARIABLE: Final = "SMALLMIND_CHROME_TRACE_PATH"
DEFAULT_PATH: Final = "smallmind-trace.json"
DEFAULT_MAX_BYTES: Final = 512 * 2**20

_OPENING: Final = b"[\n"


class ChromeTraceExporter:
    """A trace in the JSON array form of the Trace Event Format, for ui.perfetto.dev.

    Each running request has a lane with its slices: queue, prefill, decode, the stream's reader;
    tokens are instants. Queue depth, requests in flight and the KV caches are counter tracks.
    With ``detail="kernel"`` each lane has a second track with the operations of the model.

    The array form needs no closing bracket, so the file of a process that died can be opened too.
    ``close`` ends what is open and closes the array.

    Args:
        path: of the file; ``$SMALLMIND_CHROME_TRACE_PATH``, or ``smallmind-trace.json`` in the
            working directory, when None. What is there already is moved to ``path.1``.
        max_bytes: size at which the trace ends; later events are counted as lost.

    Raises:
        ConfigError: the size is less than 1.
    """

    name: Final = "chrome_trace"
    inline: Final = False
    interests: Final = ALL_KINDS

    def __init__(
        self, path: Path | str | None = None, *, max_bytes: int = DEFAULT_MAX_BYTES
    ) -> None:
        if max_bytes < 1:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"max_bytes is {max_bytes}; it must be at least 1",
                option="max_bytes",
                value=max_bytes,
            )
        self._max_bytes = max_bytes
        self._closed = False
        self._file: RecordFile | None = None
        self._begin(Path(path or os.environ.get(PATH_VARIABLE) or DEFAULT_PATH))
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin a trace of the child's own, as in a forked child."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._begin(of_process(self.path))

    def _begin(self, path: Path) -> None:
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()
        self.path = path
        self._tracks = Tracks()
        self._written = 0
        self._lost = 0
        self._raised = 0
        self._failing = False

    @property
    def lost(self) -> int:
        """Events that could not be written, or did not fit."""
        return self._lost

    def export(self, event: Event, /) -> None:
        """Write one event.

        Raises:
            OSError: it could not be written, the first one in a row.
        """
        with self._lock:
            if self._closed:
                return
            records = self._tracks.records_of(event)
            try:
                fits = self._write(records)
            except OSError:
                self._lost += 1
                if not self._failing:
                    self._failing = True
                    self._raised += 1
                    raise
                return
            self._failing = False
            self._written += fits
            self._lost += not fits

    def _write(self, records: list[Record]) -> bool:
        """Append records; answers whether they fit."""
        file = self._file = self._file or self._opened()
        text = "".join(f"{to_text(record)},\n" for record in records).encode("ascii")
        if file.size + len(text) > self._max_bytes:
            return False
        if text:
            file.write(text)
        return True

    def _opened(self) -> RecordFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = RecordFile(self.path)
        except FileInUseError:
            self.path = of_process(self.path)
            file = RecordFile(self.path)
        try:
            if file.size:
                os.replace(self.path, rotated(self.path, 1))  # noqa: PTH105 - an atomic one
                file.close()
                file = RecordFile(self.path)
            file.write(_OPENING)
        except BaseException:
            file.close()
            raise
        return file

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """Nothing is held back here; tells how many events were written, and how many were not.

        Those that ``export`` raised for are left out: who called it counts them.
        """
        with self._lock:
            return FlushResult(delivered=self._written, failed=self._lost - self._raised)

    def close(self) -> None:
        """End what is open, and close the array. May be called more than once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            file, self._file = self._file, None
            if file is None:
                return
            last = {"ph": "M", "pid": os.getpid(), "tid": 0, "ts": 0, "name": "trace_end"}
            lines = [to_text(record) for record in (*self._tracks.end_all(), {**last, "args": {}})]
            with contextlib.suppress(OSError):
                file.write((",\n".join(lines) + "\n]\n").encode("ascii"))
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
