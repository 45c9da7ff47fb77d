"""The tables of an index, and how older versions of them are brought up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from smallmind.rag._errors import RagIndexError
from smallmind_engine.telemetry import ReasonCode

APPLICATION_ID: Final = 0x534D5247
"""Written into the file, so that no other SQLite file is taken for an index: "SMRG"."""

_TABLES: Final = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO settings VALUES ('generation', '0');

CREATE TABLE label_sets (
    id INTEGER PRIMARY KEY,
    labels TEXT NOT NULL UNIQUE             -- a JSON array, sorted
);

CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    source TEXT NOT NULL,
    title TEXT NOT NULL,
    content_hash TEXT NOT NULL,             -- SHA-256 of the bytes
    recipe TEXT NOT NULL,                   -- how they became chunks and vectors
    embedder TEXT NOT NULL,                 -- whose vectors; empty without
    label_set INTEGER NOT NULL REFERENCES label_sets (id),
    text BLOB NOT NULL,                     -- what was extracted: UTF-8, deflated
    UNIQUE (collection, source)
);
CREATE INDEX documents_by_label_set ON documents (label_set);

CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used again, so that caches need no check
    document INTEGER NOT NULL REFERENCES documents (id),
    char_start INTEGER NOT NULL,
    char_end INTEGER NOT NULL,
    page INTEGER,
    heading TEXT NOT NULL,
    text TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    vector BLOB,                            -- float32, little-endian, of length 1
    UNIQUE (document, char_start, char_end)
);

CREATE VIRTUAL TABLE chunk_words USING fts5 (
    heading, text, content = 'chunks', content_rowid = 'id',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER chunks_inserted AFTER INSERT ON chunks BEGIN
    INSERT INTO chunk_words (rowid, heading, text) VALUES (new.id, new.heading, new.text);
END;
CREATE TRIGGER chunks_deleted AFTER DELETE ON chunks BEGIN
    INSERT INTO chunk_words (chunk_words, rowid, heading, text)
    VALUES ('delete', old.id, old.heading, old.text);
END;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_TABLES,)
"""Script number n brings an index from version n to n + 1. A statement ends with its line.
Never change a script that was released."""


def bring_up_to_date(
    connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS
) -> None:
    """Create the tables, or change those of an older version; all of it or nothing.

    Args:
        connection: in autocommit mode, without a transaction.
        migrations: the scripts.

    Raises:
        RagIndexError: the file is no index, or one of a newer version.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version_of(connection, len(migrations))
        for number in range(version, len(migrations)):
            for statement in _statements(migrations[number]):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _version_of(connection: sqlite3.Connection, newest: int) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (tables or application or version):
        raise RagIndexError(
            ReasonCode.RAG_INDEX_UNUSABLE,
            "the file is an SQLite database of another application",
            hint="choose another path for the index",
        )
    if version > newest:
        raise RagIndexError(
            ReasonCode.RAG_INDEX_TOO_NEW,
            f"the index has version {version}; this smallmind knows versions up to {newest}",
            hint="upgrade smallmind, or index again into another file",
            version=version,
            newest=newest,
        )
    return int(version)


def _statements(script: str) -> list[str]:
    """The statements of a script, one by one: ``executescript`` would commit in between."""
    statements: list[str] = []
    held = ""
    for line in script.splitlines(keepends=True):
        held += line
        if sqlite3.complete_statement(held):
            statements.append(held)
            held = ""
    if held.strip():
        statements.append(held)
    return statements
