"""The tables of the SQLite store, by version, and the way from one version to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ChatStoreError

APPLICATION_ID: Final = 0x534D4348
"""``SMCH`` in the file's header: tells our files from others."""

# A migration is never changed once it was released: a new version is a new entry.
_CHATS_AND_TURNS: Final = (
    """CREATE TABLE chats (
        session_id TEXT PRIMARY KEY,
        system TEXT,
        model TEXT NOT NULL DEFAULT '',
        revision INTEGER NOT NULL,
        created_s REAL NOT NULL,
        updated_s REAL NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE turns (
        session_id TEXT NOT NULL REFERENCES chats (session_id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        messages TEXT NOT NULL,
        PRIMARY KEY (session_id, place)
    )""",
    "CREATE INDEX chats_by_time ON chats (updated_s)",
)
_WINDOWS_AND_TRAILS: Final = (
    "ALTER TABLE chats ADD COLUMN model_fingerprint TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE chats ADD COLUMN window_first INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE chats ADD COLUMN window_summary TEXT",
    "ALTER TABLE turns ADD COLUMN trail_continues INTEGER",
    "ALTER TABLE turns ADD COLUMN trail_ids BLOB",
    "ALTER TABLE turns ADD COLUMN trail_chars INTEGER",
    "ALTER TABLE turns ADD COLUMN trail_digest BLOB",
)
MIGRATIONS: Final[Sequence[Sequence[str]]] = (_CHATS_AND_TURNS, _WINDOWS_AND_TRAILS)
"""The statements that lead to version 1, 2 and so on, each from the version before."""

VERSION: Final = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: Path, upto: int = VERSION) -> None:
    """Bring a file's tables to the version that is known here, in one transaction.

    Args:
        connection: in no transaction.
        path: of the file, for the error.
        upto: version to stop at.

    Raises:
        ChatStoreError: the file is of a newer version, or belongs to another program.
    """
    if _version(connection) == upto:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _version(connection)  # again: another process may have been here meanwhile
        _check(connection, path, found)
        for statements in MIGRATIONS[found:upto]:
            for statement in statements:
                connection.execute(statement)
        if found < upto:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {upto}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check(connection: sqlite3.Connection, path: Path, found: int) -> None:
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if owner != APPLICATION_ID and (owner or found or tables):
        raise ChatStoreError(
            ReasonCode.CHAT_STORE_FAILED,
            f"{path} is an SQLite file of another program",
            hint="choose another path",
            path=str(path),
        )
    if found > VERSION:
        raise ChatStoreError(
            ReasonCode.CHAT_STORE_FAILED,
            f"{path} has the version {found}; this library knows versions up to {VERSION}",
            hint="upgrade smallmind",
            path=str(path),
            version=found,
        )
