"""The statements that change an index: documents with their chunks, vectors and labels."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from smallmind.rag._access import LabelRule
from smallmind.rag._documents import Chunk
from smallmind.rag._embedding import FloatArray
from smallmind.rag._vectors import stored

_RULES = "label_rules:"
_TOTALS = "SELECT count(*), coalesce(sum(length(CAST(text AS BLOB))), 0) FROM chunks"
_TOTALS_OF = (
    "SELECT count(*), coalesce(sum(length(CAST(text AS BLOB))), 0) FROM chunks"
    " WHERE document IN (SELECT value FROM json_each(?))"
)


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """What the index knows of a document without its text.

    Attributes:
        id: of its row.
        content_hash: SHA-256 of the bytes that were indexed.
        recipe: how they became chunks and vectors.
        labels: what a user must hold to see it.
    """

    id: int
    content_hash: str
    recipe: str
    labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document that is ready to be written.

    Attributes:
        source: its name within the collection.
        title: what it calls itself.
        text: what was extracted.
        content_hash: SHA-256 of its bytes.
        recipe: how it was cut and embedded.
        labels: what a user must hold to see it.
        chunks: the pieces of ``text``.
    """

    source: str
    title: str
    text: str
    content_hash: str
    recipe: str
    labels: frozenset[str]
    chunks: tuple[Chunk, ...]


def known_documents(connection: sqlite3.Connection, collection: str) -> dict[str, KnownDocument]:
    """The documents of a collection, by source."""
    rows = connection.execute(
        "SELECT source, documents.id, content_hash, recipe, labels FROM documents"
        " JOIN label_sets ON label_sets.id = documents.label_set WHERE collection = ?",
        (collection,),
    )
    return {
        source: KnownDocument(number, content_hash, recipe, frozenset(json.loads(labels)))
        for source, number, content_hash, recipe, labels in rows
    }


def label_set_of(connection: sqlite3.Connection, labels: frozenset[str]) -> int:
    """The row of a set of labels; made when it is not there."""
    text = json.dumps(sorted(labels), ensure_ascii=False)
    connection.execute("INSERT OR IGNORE INTO label_sets (labels) VALUES (?)", (text,))
    (number,) = connection.execute("SELECT id FROM label_sets WHERE labels = ?", (text,)).fetchone()
    return int(number)


def put_document(
    connection: sqlite3.Connection,
    collection: str,
    document: PreparedDocument,
    embedder: str,
    vectors: FloatArray | None,
) -> bool:
    """Write a document in place of what was there; answers False when it is there already.

    Another process may have indexed it in the meantime, so this is looked at again here.
    """
    row = connection.execute(
        "SELECT id, content_hash, recipe FROM documents WHERE collection = ? AND source = ?",
        (collection, document.source),
    ).fetchone()
    if row is not None:
        if row[1:] == (document.content_hash, document.recipe):
            relabel(connection, collection, document.source, document.labels)
            return False
        delete_document(connection, row[0])
    cursor = connection.execute(
        "INSERT INTO documents (collection, source, title, content_hash, recipe, embedder,"
        " label_set, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            collection,
            document.source,
            document.title,
            document.content_hash,
            document.recipe,
            embedder,
            label_set_of(connection, document.labels),
            zlib.compress(document.text.encode("utf-8")),
        ),
    )
    connection.executemany(
        "INSERT INTO chunks (document, char_start, char_end, page, heading, text, tokens, vector)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (
                cursor.lastrowid,
                chunk.start,
                chunk.end,
                chunk.page,
                chunk.heading,
                chunk.text,
                chunk.tokens,
                None if vectors is None else stored(vectors[at]),
            )
            for at, chunk in enumerate(document.chunks)
        ),
    )
    return True


def delete_document(connection: sqlite3.Connection, number: int) -> None:
    """Delete a document with all that hangs on it."""
    connection.execute("DELETE FROM chunks WHERE document = ?", (number,))
    connection.execute("DELETE FROM documents WHERE id = ?", (number,))


def relabel(
    connection: sqlite3.Connection, collection: str, source: str, labels: frozenset[str]
) -> None:
    """Give a document other labels."""
    connection.execute(
        "UPDATE documents SET label_set = ? WHERE collection = ? AND source = ?",
        (label_set_of(connection, labels), collection, source),
    )


def totals(
    connection: sqlite3.Connection, documents: Iterable[int] | None = None
) -> tuple[int, int]:
    """Chunks and bytes of their text: of the whole index, or of some documents."""
    if documents is None:
        chunks, size = connection.execute(_TOTALS).fetchone()
    else:
        chunks, size = connection.execute(_TOTALS_OF, (json.dumps(list(documents)),)).fetchone()
    return int(chunks), int(size)


def text_of(blob: bytes) -> str:
    """The text of a document, from its row."""
    return zlib.decompress(blob).decode("utf-8")


def kept_rules(connection: sqlite3.Connection, collection: str) -> tuple[LabelRule, ...]:
    """The label rules that a collection was last indexed with."""
    row = connection.execute(
        "SELECT value FROM settings WHERE name = ?", (_RULES + collection,)
    ).fetchone()
    rules = () if row is None else json.loads(row[0])
    return tuple(LabelRule(pattern, frozenset(labels)) for pattern, labels in rules)


def keep_rules(connection: sqlite3.Connection, collection: str, rules: Iterable[LabelRule]) -> None:
    """Remember label rules, so that a later run without them does not open what they closed."""
    text = json.dumps([[rule.pattern, sorted(rule.labels)] for rule in rules])
    connection.execute(
        "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (_RULES + collection, text)
    )
