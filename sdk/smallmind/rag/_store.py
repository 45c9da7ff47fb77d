"""The file of an index: connections, transactions, and what SQLite's errors mean.

Any number of threads may read at once, each in a snapshot of its own that writers do not disturb
(write-ahead log); one thread writes at a time, and other processes wait for it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from smallmind.rag._errors import RagError, RagIndexError
from smallmind.rag._schema import bring_up_to_date
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.telemetry import ClosedError, ReasonCode, renew_in_child

BUSY_TIMEOUT_S: Final = 30.0
_STEPS_BETWEEN_CHECKS: Final = 4_000
"""Instructions of SQLite's machine between two looks at the limit: well below a millisecond."""
_KEPT_READERS: Final = 8
_OWNER_ONLY: Final = 0o600
_SUFFIXES: Final = ("", "-wal", "-shm")


class IndexStore:
    """Thread-safe. A forked child opens connections of its own.

    Args:
        path: the file; made when it is not there.

    Raises:
        RagIndexError: it is no index, of a newer version, damaged, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closed = False
        self._left_behind: list[sqlite3.Connection] = []
        self._readers: list[sqlite3.Connection] = []
        self._renew()
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=_OWNER_ONLY)  # it holds the text of what not everybody may see
            connection = self._connect()
            try:
                if sqlite3.sqlite_version_info < (3, 38):  # pragma: no cover - an old system
                    raise RagIndexError(
                        ReasonCode.RAG_INDEX_UNUSABLE,
                        f"SQLite {sqlite3.sqlite_version} is too old; it must be 3.38 or newer",
                    )
                connection.execute("PRAGMA journal_mode = WAL")
                bring_up_to_date(connection)
            finally:
                connection.close()
        renew_in_child(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._write_lock = threading.RLock()
        self._process = os.getpid()

    def begin_in_child(self) -> None:
        """Leave the parent's connections alone: they must be neither used nor closed here."""
        self._left_behind += self._readers
        self._readers = []
        self._renew()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def disk_bytes(self) -> int:
        """Size of the file, its write-ahead log and that log's index; what is not there is 0."""
        size = 0
        for suffix in _SUFFIXES:
            # The last connection to close takes the log away.
            with suppress(FileNotFoundError):
                size += Path(f"{self.path}{suffix}").stat().st_size
        return size

    @contextmanager
    def reading(self, limit: WorkLimit = NO_LIMIT) -> Iterator[sqlite3.Connection]:
        """A snapshot of the index that nothing changes.

        Raises:
            OperationCancelledError: the limit was reached, perhaps in the middle of a query.
            RagIndexError: the file is damaged.
            ClosedError: the index is closed.
        """
        with self._told(limit):
            connection = self._borrow()
            try:
                connection.set_progress_handler(
                    lambda: int(limit.exceeded is not None), _STEPS_BETWEEN_CHECKS
                )
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.set_progress_handler(None, 0)
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give_back(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is kept whole at its end, or not at all when an error ends it.

        Raises:
            RagIndexError: the file is damaged, locked for too long, or cannot be written.
            ClosedError: the index is closed.
        """
        with self._told(), self._write_lock:
            connection = self._borrow()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute(
                    "UPDATE settings SET value = value + 1 WHERE name = 'generation'"
                )
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give_back(connection)

    def _borrow(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise ClosedError(ReasonCode.CLOSED, f"the index {self.path} is closed")
            if self._readers:
                return self._readers.pop()
        return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed and len(self._readers) < _KEPT_READERS:
                self._readers.append(connection)
                return
        connection.close()

    @contextmanager
    def _told(self, limit: WorkLimit = NO_LIMIT) -> Iterator[None]:
        """What goes wrong in SQLite, as errors of ours."""
        try:
            yield
        except RagError:
            raise
        except (sqlite3.Error, OSError) as error:
            if limit.exceeded is not None:
                limit.check("retrieval")
            raise RagIndexError(
                ReasonCode.RAG_INDEX_UNUSABLE,
                f"the index {self.path} cannot be used: {error}",
                hint="delete the file and index again when it is damaged",
                path=str(self.path),
            ) from error

    def close(self) -> None:
        """Close all connections; those in use are closed when they are given back."""
        with self._lock:
            self._closed = True
            readers, self._readers = self._readers, []
        for connection in readers:
            connection.close()
