"""The queries of a search. Each of them leaves out what the user may not see before it ranks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from smallmind.rag._access import Authorizer, UserContext, may_see
from smallmind.rag._results import RetrievedChunk

HEADING_WEIGHT: Final = 2.0
TEXT_WEIGHT: Final = 1.0

_RANKED: Final = """
SELECT chunk_words.rowid, bm25(chunk_words, ?, ?) AS score
FROM chunk_words
JOIN chunks ON chunks.id = chunk_words.rowid
JOIN documents ON documents.id = chunks.document
WHERE chunk_words MATCH ? AND documents.label_set IN (SELECT value FROM json_each(?))
ORDER BY score, chunk_words.rowid LIMIT ?
"""
_HOLDING: Final = """
SELECT rowid FROM chunk_words
WHERE chunk_words MATCH ? AND rowid IN (SELECT value FROM json_each(?))
"""
_CHUNKS: Final = """
SELECT chunks.id, collection, source, title, content_hash, labels, heading, page,
       char_start, char_end, chunks.text, tokens
FROM chunks
JOIN documents ON documents.id = chunks.document
JOIN label_sets ON label_sets.id = documents.label_set
WHERE chunks.id IN (SELECT value FROM json_each(?))
  AND documents.label_set IN (SELECT value FROM json_each(?))
"""


def visible_label_sets(
    connection: sqlite3.Connection, user: UserContext | None, authorizer: Authorizer
) -> tuple[int, ...]:
    """The sets of labels that ``user`` may see, each judged once."""
    rows = connection.execute("SELECT id, labels FROM label_sets").fetchall()
    return tuple(
        number
        for number, labels in rows
        if may_see(user, frozenset(json.loads(labels)), authorizer)
    )


def lexical(
    connection: sqlite3.Connection, terms: Sequence[str], label_sets: Iterable[int], depth: int
) -> list[tuple[int, float]]:
    """Chunks that hold any of the terms, best first by BM25, with their scores.

    Every term is quoted, so that a question cannot contain operators of the query language.
    """
    if not terms or depth < 1:
        return []
    query = " OR ".join(map(_quoted, terms))
    rows = connection.execute(
        _RANKED, (HEADING_WEIGHT, TEXT_WEIGHT, query, _json(label_sets), depth)
    )
    return [(number, -score) for number, score in rows]


def coverage(
    connection: sqlite3.Connection, terms: Sequence[str], chunks: Sequence[int]
) -> dict[int, float]:
    """Share of the terms that each chunk holds, 0 to 1, with inflections as the index has them."""
    found = dict.fromkeys(chunks, 0)
    among = _json(chunks)
    for term in terms:
        for (number,) in connection.execute(_HOLDING, (_quoted(term), among)):
            found[number] += 1
    return {number: held / len(terms) if terms else 0.0 for number, held in found.items()}


def read_chunks(
    connection: sqlite3.Connection, chunks: Sequence[int], label_sets: Iterable[int]
) -> dict[int, RetrievedChunk]:
    """The text of chunks, of those only that are in documents with one of ``label_sets``."""
    rows = connection.execute(_CHUNKS, (_json(chunks), _json(label_sets)))
    return {
        row[0]: RetrievedChunk(
            chunk_id=row[0],
            collection=row[1],
            source=row[2],
            title=row[3],
            content_hash=row[4],
            labels=frozenset(json.loads(row[5])),
            heading=row[6],
            page=row[7],
            start=row[8],
            end=row[9],
            text=row[10],
            tokens=row[11],
        )
        for row in rows
    }


def _quoted(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


def _json(numbers: Iterable[int]) -> str:
    return json.dumps(list(numbers))
