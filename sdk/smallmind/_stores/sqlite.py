"""A store in one SQLite file, for many threads and processes at once."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from smallmind._chat_conversation import Turn, Window
from smallmind._stores.protocol import ChatHead, ChatSummary, StoredChat
from smallmind._stores.records import (
    conflict,
    ids_to_bytes,
    messages_from_json,
    messages_to_json,
    title_of,
    trail_of,
)
from smallmind._stores.schema import migrate
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ChatStoreError, ConfigError

_LOAD_HEAD: Final = """
    SELECT system, window_first, window_summary, model, model_fingerprint, revision
    FROM chats WHERE session_id = ?"""
_LOAD_TURNS: Final = """
    SELECT messages, trail_continues, trail_ids, trail_chars, trail_digest
    FROM turns WHERE session_id = ? ORDER BY place"""
_PUT_HEAD: Final = """
    INSERT INTO chats (session_id, system, window_first, window_summary, model, model_fingerprint,
                       revision, created_s, updated_s)
    VALUES (:session_id, :system, :window_first, :window_summary, :model, :model_fingerprint,
            :revision, :now_s, :now_s)
    ON CONFLICT (session_id) DO UPDATE SET
        system = :system, window_first = :window_first, window_summary = :window_summary,
        model = :model, model_fingerprint = :model_fingerprint,
        revision = :revision, updated_s = :now_s"""
_PUT_TURN: Final = """
    INSERT INTO turns (session_id, place, messages,
                       trail_continues, trail_ids, trail_chars, trail_digest)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_LIST: Final = """
    SELECT chats.session_id, count(turns.place), updated_s, model,
           (SELECT messages FROM turns AS opening
            WHERE opening.session_id = chats.session_id AND opening.place = 0)
    FROM chats LEFT JOIN turns ON turns.session_id = chats.session_id
    GROUP BY chats.session_id ORDER BY updated_s DESC"""


class SQLiteChatStore:
    """Keeps conversations in a file. Thread-safe; for many processes too, also after a fork.

    Each turn is one transaction: whoever is killed loses at most the turn that was not written
    yet, and readers see whole turns only. They never wait for a writer (write-ahead log). Nothing
    of a file is ever executed: messages are JSON, tokens are numbers.

    Args:
        path: of the file; made when it is not there, its folder too.
        timeout_s: how long to wait for another writer.
        clock: seconds since 1970.

    Raises:
        ChatStoreError: the file cannot be opened, belongs to another program, or is of a newer
            version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if os.fspath(path) in {"", ":memory:"}:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"path is {os.fspath(path)!r}; it must be that of a file",
                hint="use InMemoryChatStore",
            )
        self.path = Path(path)
        self._timeout_s = timeout_s
        self._clock = clock
        with self._told():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                migrate(connection, self.path)

    def load(self, session_id: str, /) -> StoredChat | None:
        """See ``ChatStore.load``."""
        with self._reading() as connection:
            head = connection.execute(_LOAD_HEAD, (session_id,)).fetchone()
            rows = connection.execute(_LOAD_TURNS, (session_id,)).fetchall()
        if head is None:
            return None
        system, first, summary, model, fingerprint, revision = head
        return StoredChat(
            head=ChatHead(
                session_id=session_id,
                system=system,
                window=Window(first, summary),
                model=model,
                model_fingerprint=fingerprint,
            ),
            turns=tuple(Turn(messages_from_json(row[0]), trail_of(*row[1:])) for row in rows),
            revision=revision,
        )

    def write(
        self, head: ChatHead, first: int, turns: Sequence[Turn], /, *, revision: int | None
    ) -> int:
        """See ``ChatStore.write``."""
        rows = [_row(head.session_id, first + place, turn) for place, turn in enumerate(turns)]
        with self._writing() as connection:
            found = connection.execute(_LOAD_HEAD, (head.session_id,)).fetchone()
            now = 0 if found is None else found[-1]
            if revision is not None and revision != now:
                raise conflict(head.session_id, revision, now)
            connection.execute(
                _PUT_HEAD,
                {
                    "session_id": head.session_id,
                    "system": head.system,
                    "window_first": head.window.first,
                    "window_summary": head.window.summary,
                    "model": head.model,
                    "model_fingerprint": head.model_fingerprint,
                    "revision": now + 1,
                    "now_s": self._clock(),
                },
            )
            connection.execute(
                "DELETE FROM turns WHERE session_id = ? AND place >= ?", (head.session_id, first)
            )
            connection.executemany(_PUT_TURN, rows)
            return int(now) + 1

    def delete(self, session_id: str, /) -> bool:
        """See ``ChatStore.delete``."""
        with self._writing() as connection:
            gone = connection.execute("DELETE FROM chats WHERE session_id = ?", (session_id,))
            return gone.rowcount > 0

    def chats(self) -> tuple[ChatSummary, ...]:
        """See ``ChatStore.chats``."""
        with self._reading() as connection:
            rows = connection.execute(_LIST).fetchall()
        return tuple(
            ChatSummary(
                session_id=session_id,
                turns=turns,
                updated_s=updated_s,
                title="" if opening is None else title_of((Turn(messages_from_json(opening)),)),
                model=model,
            )
            for session_id, turns, updated_s, model, opening in rows
        )

    # -- connections --------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        """A connection for one operation: none crosses a thread or a fork."""
        connection = sqlite3.connect(self.path, timeout=self._timeout_s, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # a turn that was written is on the disk
        return connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the file throughout."""
        with self._told(), closing(self._connect()) as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction that is written whole, or not at all."""
        with self._told(), closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection  # when this raises, closing rolls back
            connection.execute("COMMIT")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Make what SQLite or the disk complains of an error of ours."""
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise ChatStoreError(
                ReasonCode.CHAT_STORE_FAILED,
                f"{self.path} cannot be used: {type(error).__name__}: {error}",
                hint="check that the folder can be written, the disk has room, and the file is"
                " a store of conversations",
                path=str(self.path),
            ) from error


def _row(session_id: str, place: int, turn: Turn) -> tuple[Any, ...]:
    messages = messages_to_json(turn.messages)
    trail = turn.trail
    if trail is None:
        return (session_id, place, messages, None, None, None, None)
    ids = ids_to_bytes(trail.token_ids)
    return (
        session_id,
        place,
        messages,
        int(trail.continues),
        ids,
        trail.text_chars,
        trail.text_digest,
    )
