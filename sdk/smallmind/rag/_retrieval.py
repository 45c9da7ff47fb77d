"""A retrieval: from a question to the chunks that a user may see and that fit it best."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from smallmind.rag._access import Authorizer, UserContext
from smallmind.rag._embedding import Embedder, FloatArray, fusion_of, normalized
from smallmind.rag._errors import RagIndexError
from smallmind.rag._fusion import fused
from smallmind.rag._grounding import GroundingRules
from smallmind.rag._results import RetrievalMode, RetrievalResult, RetrievedChunk
from smallmind.rag._retrieval_options import Reranker, RetrievalOptions
from smallmind.rag._search import coverage, lexical, read_chunks, visible_label_sets
from smallmind.rag._store import IndexStore
from smallmind.rag._vectors import VectorCache, VectorTable, nearest, similarities_of
from smallmind.rag._words import terms_of
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import (
    Emitter,
    OperationCancelledError,
    ReasonCode,
    RequestStatus,
    RuntimeLoggerAdapter,
    SmallMindError,
    correlated,
    now_ns,
    publish_retrieval_ended,
    publish_retrieval_started,
)
from smallmind_engine.telemetry.errors import invalid_option


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverParts:
    """What a retrieval works with.

    Attributes:
        name: of the index, in events.
        store: is searched.
        embedder: makes the question's vector; None for an index of words only.
        vectors: of the chunks; None likewise.
        authorizer: decides who sees what.
    """

    name: str
    store: IndexStore
    embedder: Embedder | None
    vectors: VectorCache | None
    authorizer: Authorizer


@dataclass(slots=True)
class _Found:
    """What is known so far; told in the end, however it ends."""

    phases: dict[str, float] = field(default_factory=dict)
    candidates: int = 0
    chunks: tuple[RetrievedChunk, ...] = ()
    best_similarity: float | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - begin


class Retrieval:
    """One search.

    Args:
        parts: what it works with.
        options: how it is made.
        rules: when a chunk is good enough.
        reranker: judges the best chunks anew.
        emitter: with the ids of the request that the sources are for.
        limit: stops it.
    """

    def __init__(
        self,
        parts: RetrieverParts,
        options: RetrievalOptions,
        rules: GroundingRules,
        reranker: Reranker | None,
        emitter: Emitter,
        limit: WorkLimit,
    ) -> None:
        self._parts = parts
        self._options = options
        self._rules = rules
        self._reranker = reranker
        self._emitter = emitter
        self._limit = limit
        self._log = RuntimeLoggerAdapter("rag", emitter)
        self._found = _Found()
        usual = RetrievalMode.LEXICAL if parts.embedder is None else RetrievalMode.HYBRID
        self._mode = options.mode or usual
        self._fusion = options.fusion(fusion_of(parts.embedder))

    def run(self, question: str, user: UserContext | None) -> RetrievalResult:
        """Search.

        Raises:
            OperationCancelledError: the limit was reached.
            RagIndexError: the index is damaged, or has no vectors of this embedder.
            ConfigError: vectors are asked for of an index without, or a re-ranker misbehaves.
        """
        name, mode, top_k = self._parts.name, self._mode.value, self._options.top_k
        begin_ns = now_ns()
        publish_retrieval_started(self._emitter, data_source=name, mode=mode, top_k=top_k)
        status, error_type = RequestStatus.FAILED, ""
        reason: ReasonCode | None = ReasonCode.ERROR
        try:
            with correlated(self._emitter.correlation):
                self._search(question, user)
        except OperationCancelledError as stopped:
            status, reason = RequestStatus.CANCELLED, stopped.reason
            error_type = type(stopped).__name__
            raise
        except BaseException as error:
            reason = error.reason if isinstance(error, SmallMindError) else ReasonCode.ERROR
            error_type = type(error).__name__
            raise
        else:
            status = RequestStatus.COMPLETED
            sufficient = self._rules.suffices(self._found.chunks)
            reason = None if sufficient else ReasonCode.RAG_EVIDENCE_INSUFFICIENT
        finally:
            found = self._found
            duration_s = (now_ns() - begin_ns) / 1e9
            phases = tuple(found.phases.items())
            publish_retrieval_ended(
                self._emitter,
                data_source=name,
                mode=mode,
                top_k=top_k,
                status=status,
                duration_s=duration_s,
                embedder="" if self._parts.embedder is None else self._parts.embedder.identity,
                reason=reason,
                error_type=error_type,
                candidates=found.candidates,
                returned=len(found.chunks),
                returned_bytes=sum(len(chunk.text.encode()) for chunk in found.chunks),
                best_similarity=found.best_similarity,
                phases=phases,
            )
        return RetrievalResult(
            chunks=found.chunks,
            mode=self._mode,
            candidates=found.candidates,
            sufficient=sufficient,
            duration_s=duration_s,
            phases=phases,
            correlation=self._emitter.correlation,
        )

    def _search(self, question: str, user: UserContext | None) -> None:
        self._limit.check("retrieval")
        terms = terms_of(question)
        vector = self._vector_of(question)
        # One snapshot for all that follows: what was allowed when it was ranked is when it is read.
        with self._parts.store.reading(self._limit) as connection:
            allowed = visible_label_sets(connection, user, self._parts.authorizer)
            words: list[tuple[int, float]] = []
            near: list[tuple[int, float]] = []
            table: VectorTable | None = None
            if self._mode is not RetrievalMode.DENSE:
                with self._found.phase("lexical"):
                    words = lexical(connection, terms, allowed, self._options.depth)
                self._log.debug("the words were searched", candidates=len(words))
            if vector is not None:
                with self._found.phase("dense"):
                    table = self._table(connection)
                    near = nearest(table, vector, allowed, self._options.depth, self._limit)
                self._log.debug("the vectors were searched", candidates=len(near))
            with self._found.phase("fuse"):
                ranked = self._ranked(words, near)
            with self._found.phase("read"):
                best = ranked[: self._read_depth]
                ids = [chunk for chunk, _ in best]
                texts = read_chunks(connection, ids, allowed)
                held = coverage(connection, terms, ids)
        similarities: dict[int, float] = {}
        if table is not None and vector is not None:
            similarities = similarities_of(table, vector, ids)
        self._found.candidates = len(ranked)
        self._found.best_similarity = near[0][1] if near else None
        lexical_ranks = {chunk: rank for rank, (chunk, _) in enumerate(words, 1)}
        dense_ranks = {chunk: rank for rank, (chunk, _) in enumerate(near, 1)}
        chunks = [
            dataclasses.replace(
                texts[chunk],
                score=score,
                lexical_rank=lexical_ranks.get(chunk),
                dense_rank=dense_ranks.get(chunk),
                similarity=similarities.get(chunk),
                coverage=held[chunk],
                sufficient=self._rules.takes(held[chunk], similarities.get(chunk)),
            )
            for chunk, score in best
            if chunk in texts
        ]
        self._found.chunks = self._within_limits(self._reranked(question, chunks))
        self._log.debug(
            "the sources were chosen",
            candidates=len(ranked),
            returned=len(self._found.chunks),
            sufficient=sum(chunk.sufficient for chunk in self._found.chunks),
        )

    @property
    def _read_depth(self) -> int:
        options = self._options
        return options.top_k if self._reranker is None else max(options.top_k, options.rerank_depth)

    def _vector_of(self, question: str) -> FloatArray | None:
        if self._mode is RetrievalMode.LEXICAL:
            return None
        embedder = self._parts.embedder
        if embedder is None:
            raise invalid_option(
                "mode", self._mode.value, "lexical for an index without an embedder"
            )
        with self._found.phase("embed"):
            vector: FloatArray = normalized(embedder.embed([question], limit=self._limit))[0]
            return vector

    def _table(self, connection: sqlite3.Connection) -> VectorTable:
        vectors, embedder = self._parts.vectors, self._parts.embedder
        if vectors is None or embedder is None:  # pragma: no cover - they come together
            raise RuntimeError
        table = vectors.table(connection, self._limit)
        if not len(table.ids):
            others = connection.execute(
                "SELECT DISTINCT embedder FROM documents WHERE embedder <> ? LIMIT 3",
                (embedder.identity,),
            ).fetchall()
            if others:
                names = ", ".join(repr(name) for (name,) in others)
                raise RagIndexError(
                    ReasonCode.RAG_EMBEDDER_MISMATCH,
                    f"the index has vectors of {names} and none of {embedder.identity!r}",
                    hint="open it with that embedder, or index again with this one",
                )
        return table

    def _ranked(
        self, words: list[tuple[int, float]], near: list[tuple[int, float]]
    ) -> list[tuple[int, float]]:
        if self._mode is RetrievalMode.LEXICAL:
            return words
        if self._mode is RetrievalMode.DENSE:
            return near
        fusion = self._fusion
        return fused(
            (
                (fusion.lexical_weight, [chunk for chunk, _ in words]),
                (fusion.dense_weight, [chunk for chunk, _ in near]),
            ),
            fusion.constant,
        )

    def _reranked(self, question: str, chunks: list[RetrievedChunk]) -> list[RetrievedChunk]:
        if self._reranker is None or not chunks:
            return chunks
        with self._found.phase("rerank"):
            self._limit.check("re-ranking")
            scores = self._reranker.scores(question, tuple(chunks), limit=self._limit)
            if len(scores) != len(chunks):
                raise invalid_option(
                    "reranker", len(scores), f"one that gives {len(chunks)} scores"
                )
            self._limit.check("re-ranking")
            judged = [
                dataclasses.replace(chunk, score=float(score))
                for chunk, score in zip(chunks, scores, strict=True)
            ]
            judged.sort(key=lambda chunk: -chunk.score)
        return judged

    def _within_limits(self, chunks: list[RetrievedChunk]) -> tuple[RetrievedChunk, ...]:
        kept: list[RetrievedChunk] = []
        size = 0
        for chunk in chunks[: self._options.top_k]:
            size += len(chunk.text.encode())
            if size > self._options.max_bytes:
                self._log.warn(
                    "sources were left out",
                    reason=ReasonCode.RAG_BUDGET_EXCEEDED,
                    max_bytes=self._options.max_bytes,
                )
                break
            kept.append(chunk)
        return tuple(kept)
