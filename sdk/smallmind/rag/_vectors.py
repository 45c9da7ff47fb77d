"""Nearest neighbours: all vectors of an index as one matrix, searched exactly.

The vectors are kept in the rows of their chunks, so that a transaction holds both or neither. The
matrix is a copy in memory; when the index changes, only the vectors of new chunks are read.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind.rag._embedding import FloatArray
from smallmind.rag._errors import RagIndexError
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import ReasonCode, renew_in_child

_ROWS_AT_ONCE: Final = 16_384
"""Rows between two looks at the limit: a few milliseconds."""
_GATHER_COST: Final = 4
_STORED: Final = np.dtype("<f4")

_Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class VectorTable:
    """The vectors of one state of an index.

    Attributes:
        generation: of the index.
        ids: of the chunks, ascending.
        label_sets: of their documents, in the same order.
        vectors: shape ``(len(ids), dimension)``, rows of length 1.
    """

    generation: int
    ids: _Ids
    label_sets: _Ids
    vectors: FloatArray


def stored(vector: FloatArray) -> bytes:
    """A vector as it is kept in a row."""
    return vector.astype(_STORED, copy=False).tobytes()


class VectorCache:
    """The matrix of the newest state that was searched. Thread-safe.

    Args:
        embedder: identity of the embedder whose vectors are meant.
        dimension: of its vectors.
    """

    def __init__(self, embedder: str, dimension: int) -> None:
        self._embedder = embedder
        self._dimension = dimension
        self._table: VectorTable | None = None
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin with a free lock, as in a forked child."""
        self._lock = threading.Lock()

    def table(self, connection: sqlite3.Connection, limit: WorkLimit) -> VectorTable:
        """The vectors of the state that ``connection`` sees.

        Raises:
            RagIndexError: the vectors are of another width.
            OperationCancelledError: the limit was reached.
        """
        (value,) = connection.execute(
            "SELECT value FROM settings WHERE name = 'generation'"
        ).fetchone()
        generation = int(value)
        known = self._table
        if known is not None and known.generation == generation:
            return known
        with self._lock:
            known = self._table
            if known is not None and known.generation == generation:
                return known
            fresh = self._read(connection, generation, known, limit)
            if known is None or known.generation < generation:
                self._table = fresh
            return fresh

    def _read(
        self,
        connection: sqlite3.Connection,
        generation: int,
        known: VectorTable | None,
        limit: WorkLimit,
    ) -> VectorTable:
        limit.check("reading vectors")
        rows = connection.execute(
            "SELECT chunks.id, documents.label_set FROM chunks"
            " JOIN documents ON documents.id = chunks.document"
            " WHERE documents.embedder = ? AND chunks.vector IS NOT NULL ORDER BY chunks.id",
            (self._embedder,),
        ).fetchall()
        pairs = np.array(rows, np.int64).reshape(-1, 2)
        ids, label_sets = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
        vectors = np.empty((len(ids), self._dimension), np.float32)
        missing = np.ones(len(ids), bool)
        if known is not None and len(known.ids) and len(ids):
            # A chunk never changes and its id is never used again.
            at = np.minimum(np.searchsorted(known.ids, ids), len(known.ids) - 1)
            missing = known.ids[at] != ids
            vectors[~missing] = known.vectors[at[~missing]]
        self._fill(connection, ids, vectors, np.flatnonzero(missing), limit)
        return VectorTable(generation, ids, label_sets, vectors)

    def _fill(
        self,
        connection: sqlite3.Connection,
        ids: _Ids,
        vectors: FloatArray,
        rows: npt.NDArray[np.intp],
        limit: WorkLimit,
    ) -> None:
        for begin in range(0, len(rows), _ROWS_AT_ONCE):
            limit.check("reading vectors")
            block = rows[begin : begin + _ROWS_AT_ONCE]
            first, last = int(ids[block[0]]), int(ids[block[-1]])
            found = dict(
                connection.execute(
                    "SELECT chunks.id, chunks.vector FROM chunks"
                    " JOIN documents ON documents.id = chunks.document"
                    " WHERE chunks.id BETWEEN ? AND ? AND documents.embedder = ?",
                    (first, last, self._embedder),
                )
            )
            for row in block:
                vector = np.frombuffer(found[int(ids[row])], _STORED)
                if len(vector) != self._dimension:
                    raise RagIndexError(
                        ReasonCode.RAG_EMBEDDER_MISMATCH,
                        f"the index holds vectors of {len(vector)} numbers;"
                        f" those of {self._embedder!r} have {self._dimension}",
                        hint="index again into another file",
                    )
                vectors[row] = vector


def nearest(
    table: VectorTable,
    question: FloatArray,
    label_sets: Iterable[int],
    depth: int,
    limit: WorkLimit,
) -> list[tuple[int, float]]:
    """The chunks nearest to a question among those that may be seen.

    What may not be seen is left out before anything is ranked.

    Args:
        table: the vectors.
        question: its vector, of length 1.
        label_sets: of the documents that may be seen.
        depth: chunks to give back at most.
        limit: stops the search.

    Returns:
        Ids and cosines, nearest first; of equal ones the older first.

    Raises:
        OperationCancelledError: the limit was reached.
    """
    allowed = np.flatnonzero(np.isin(table.label_sets, np.fromiter(label_sets, np.int64)))
    if not len(allowed) or depth < 1:
        return []
    scores = _scores(table, question, allowed, limit)
    if depth < len(scores):
        # All that reach the last place, so that ties are broken by age and not by chance.
        threshold = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        best = np.flatnonzero(scores >= threshold)
    else:
        best = np.arange(len(scores))
    order = best[np.lexsort((allowed[best], -scores[best]))][:depth]
    return [(int(table.ids[allowed[at]]), float(scores[at])) for at in order]


def _scores(
    table: VectorTable, question: FloatArray, allowed: npt.NDArray[np.intp], limit: WorkLimit
) -> FloatArray:
    """Cosines of the allowed rows."""
    # To gather rows costs more than to multiply them, unless they are few.
    few = len(allowed) * _GATHER_COST < len(table.ids)
    count = len(allowed) if few else len(table.ids)
    scores: FloatArray = np.empty(count, np.float32)
    for begin in range(0, count, _ROWS_AT_ONCE):
        limit.check("searching vectors")
        block = slice(begin, begin + _ROWS_AT_ONCE)
        rows = table.vectors[allowed[block]] if few else table.vectors[block]
        np.matmul(rows, question, out=scores[block])
    return scores if few else scores[allowed]


def similarities_of(
    table: VectorTable, question: FloatArray, chunks: Iterable[int]
) -> dict[int, float]:
    """Cosines of a question and some chunks, of those that have a vector."""
    ids = np.fromiter(chunks, np.int64)
    if not len(ids) or not len(table.ids):
        return {}
    at = np.minimum(np.searchsorted(table.ids, ids), len(table.ids) - 1)
    there = table.ids[at] == ids
    scores = table.vectors[at[there]] @ question
    return {int(c): float(s) for c, s in zip(ids[there], scores, strict=True)}
