"""An indexing run: reads what changed, cuts, embeds and writes it, and deletes what is gone.

Documents are written a few at a time, each whole with its chunks and vectors in one transaction.
A run that is killed leaves whole documents behind; the next one finds them unchanged and goes on
with the rest, so that nothing is lost and nothing is there twice.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from smallmind.rag._access import LabelRule, labels_by
from smallmind.rag._chunking import ChunkingOptions, chunks_of
from smallmind.rag._documents import DocumentSource, SourceDocument
from smallmind.rag._embedding import Embedder, FloatArray, normalized
from smallmind.rag._errors import DocumentError, RagBudgetError, RagIndexError
from smallmind.rag._extraction import Extractor, extract
from smallmind.rag._reports import DocumentFailure, IndexProgress, IndexReport
from smallmind.rag._rows import (
    KnownDocument,
    PreparedDocument,
    delete_document,
    keep_rules,
    kept_rules,
    known_documents,
    put_document,
    relabel,
    totals,
)
from smallmind.rag._store import IndexStore
from smallmind.rag._tokens import TokenCounter
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import (
    OperationCancelledError,
    ReasonCode,
    RuntimeLoggerAdapter,
)

EXTRACTION: Final = "extraction-v1"
"""Changes when the same bytes give another text, so that documents are read anew."""
_CHUNKS_AT_ONCE: Final = 128
_DOCUMENTS_AT_ONCE: Final = 64
_TEXTS_PER_EMBEDDING: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLimits:
    """What an index may hold.

    Attributes:
        max_chunks: in the whole index.
        max_bytes: of the text of all chunks.
        max_document_bytes: of one document; larger ones are left out and reported.
    """

    max_chunks: int = 1_000_000
    max_bytes: int = 4 << 30
    max_document_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexingParts:
    """What a run works with.

    Attributes:
        store: receives the documents.
        embedder: makes the vectors; None for an index of words only.
        chunking: how texts are cut.
        count: counts tokens.
        extractors: read documents, by the end of the name.
        limits: what the index may hold.
        log: is told what happens.
    """

    store: IndexStore
    embedder: Embedder | None
    chunking: ChunkingOptions
    count: TokenCounter
    extractors: Mapping[str, Extractor]
    limits: IndexLimits
    log: RuntimeLoggerAdapter

    @property
    def recipe(self) -> str:
        """Changes with whatever changes chunks or vectors of the same bytes."""
        return f"{EXTRACTION}|{self.chunking.identity}|{self.embedder_id}"

    @property
    def embedder_id(self) -> str:
        """Identity of the embedder; empty without one."""
        return "" if self.embedder is None else self.embedder.identity


@dataclass(slots=True)
class _Tally:
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    relabelled: int = 0
    deleted: int = 0
    chunks: int = 0
    failed: list[DocumentFailure] = field(default_factory=list)


class IndexingRun:
    """One run over one collection.

    Args:
        parts: what it works with.
        source: gives the documents.
        rules: give labels by source, besides those that documents bring; None for those of the
            collection's last run.
        limit: stops it.
        on_progress: told after each document.
    """

    def __init__(
        self,
        parts: IndexingParts,
        source: DocumentSource,
        rules: Iterable[LabelRule] | None,
        limit: WorkLimit,
        on_progress: Callable[[IndexProgress], None] | None,
    ) -> None:
        self._parts = parts
        self._source = source
        self._limit = limit
        self._on_progress = on_progress
        self._begin_s = time.perf_counter()
        self._tally = _Tally()
        self._pending: list[PreparedDocument] = []
        with parts.store.reading(limit) as connection:
            self._known = known_documents(connection, source.collection)
            old_rules = kept_rules(connection, source.collection)
            self._chunks, self._bytes = totals(connection)
        self._rules = old_rules if rules is None else tuple(rules)
        self._rules_changed = self._rules != old_rules

    def run(self) -> IndexReport:
        """Do it.

        Raises:
            OperationCancelledError: the limit was reached; what was written stays, and
                ``details["report"]`` tells of it.
            RagBudgetError: the index may not hold more; what was written stays.
            RagIndexError: the index cannot be written.
        """
        log, collection = self._parts.log, self._source.collection
        log.info("indexing began", collection=collection, known=len(self._known))
        try:
            if self._rules_changed:
                with self._parts.store.writing() as connection:
                    keep_rules(connection, collection, self._rules)
            present = self._take_all()
            self._delete_all_but(present)
        except OperationCancelledError as stopped:
            stopped.details["report"] = self._report()
            log.warning("indexing was stopped", error=stopped, collection=collection)
            raise
        report = self._report()
        log.info(
            "indexing ended",
            added=report.added,
            updated=report.updated,
            deleted=report.deleted,
            duration_s=round(report.duration_s, 6),
        )
        return report

    def _report(self) -> IndexReport:
        tally = self._tally
        return IndexReport(
            added=tally.added,
            updated=tally.updated,
            unchanged=tally.unchanged,
            relabelled=tally.relabelled,
            deleted=tally.deleted,
            failed=tuple(tally.failed),
            chunks=tally.chunks,
            duration_s=time.perf_counter() - self._begin_s,
        )

    def _take_all(self) -> set[str]:
        """Index what changed; answers with the sources that are there."""
        documents = list(self._source.documents())
        present: set[str] = set()
        waiting = 0
        for number, document in enumerate(documents, 1):
            self._limit.check("indexing")
            if self._take(document):
                present.add(document.source)
            waiting = sum(len(each.chunks) for each in self._pending)
            if waiting >= _CHUNKS_AT_ONCE or len(self._pending) >= _DOCUMENTS_AT_ONCE:
                self._write()
            if self._on_progress is not None:
                self._on_progress(IndexProgress(number, len(documents), self._tally.chunks))
        self._write()
        if self._on_progress is not None:
            self._on_progress(IndexProgress(len(documents), len(documents), self._tally.chunks))
        return present

    def _take(self, document: SourceDocument) -> bool:
        """Look at one document; answers False when it is gone."""
        labels = document.labels | labels_by(self._rules, document.source)
        known = self._known.get(document.source)
        if known is not None and known.labels != labels:
            # At once, whatever becomes of its text: what was closed must not stay open.
            with self._parts.store.writing() as connection:
                relabel(connection, self._source.collection, document.source, labels)
        try:
            prepared = self._prepared(document, known, labels)
        except FileNotFoundError:
            return False
        except (DocumentError, OSError) as error:
            self._fail(document, error)
            return True
        if prepared is None:
            self._tally.unchanged += 1
            self._tally.relabelled += known is not None and known.labels != labels
        else:
            self._pending.append(prepared)
        return True

    def _prepared(
        self, document: SourceDocument, known: KnownDocument | None, labels: frozenset[str]
    ) -> PreparedDocument | None:
        parts = self._parts
        self._check_size(document.size_bytes or 0)
        data = document.read()
        self._check_size(len(data))
        content_hash = hashlib.sha256(data).hexdigest()
        if known is not None and (known.content_hash, known.recipe) == (content_hash, parts.recipe):
            return None
        extracted = extract(document.source, data, self._limit, parts.extractors)
        chunks = tuple(chunks_of(extracted, parts.chunking, parts.count, self._limit))
        return PreparedDocument(
            source=document.source,
            title=extracted.title,
            text=extracted.text,
            content_hash=content_hash,
            recipe=parts.recipe,
            labels=labels,
            chunks=chunks,
        )

    def _check_size(self, size: int) -> None:
        most = self._parts.limits.max_document_bytes
        if size > most:
            raise DocumentError(
                ReasonCode.RAG_SOURCE_UNREADABLE,
                f"the document has {size} bytes; the limit is {most}",
                hint="raise max_document_bytes",
            )

    def _fail(self, document: SourceDocument, error: DocumentError | OSError) -> None:
        reason = getattr(error, "reason", ReasonCode.RAG_SOURCE_UNREADABLE)
        self._tally.failed.append(DocumentFailure(document.source, reason, str(error)))
        self._parts.log.warning(
            "a document could not be indexed", error=error, reason=reason, source=document.source
        )

    def _write(self) -> None:
        """Embed and write what is pending, in one transaction."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        parts = self._parts
        self._reserve(pending)
        vectors = self._embedded([c.text for document in pending for c in document.chunks])
        with parts.store.writing() as connection:
            begin = 0
            for document in pending:
                end = begin + len(document.chunks)
                mine = None if vectors is None else vectors[begin:end]
                begin = end
                put_document(connection, self._source.collection, document, parts.embedder_id, mine)
        for document in pending:
            self._tally.chunks += len(document.chunks)
            if document.source in self._known:
                self._tally.updated += 1
            else:
                self._tally.added += 1

    def _reserve(self, pending: list[PreparedDocument]) -> None:
        """Ask for room before it is taken."""
        limits = self._parts.limits
        replaced = [self._known[d.source].id for d in pending if d.source in self._known]
        if replaced:
            with self._parts.store.reading(self._limit) as connection:
                chunks, size = totals(connection, replaced)
            self._chunks -= chunks
            self._bytes -= size
        self._chunks += sum(len(document.chunks) for document in pending)
        self._bytes += sum(len(c.text.encode()) for document in pending for c in document.chunks)
        for name, wanted, most in (
            ("max_chunks", self._chunks, limits.max_chunks),
            ("max_bytes", self._bytes, limits.max_bytes),
        ):
            if wanted > most:
                raise RagBudgetError(
                    ReasonCode.RAG_BUDGET_EXCEEDED,
                    f"the index would need {name} of {wanted}; the limit is {most}",
                    hint=f"raise {name}, or index less",
                    limit=name,
                    wanted=wanted,
                    granted=most,
                )

    def _embedded(self, texts: list[str]) -> FloatArray | None:
        embedder = self._parts.embedder
        if embedder is None:
            return None
        vectors = np.empty((len(texts), embedder.dimension), np.float32)
        for begin in range(0, len(texts), _TEXTS_PER_EMBEDDING):
            self._limit.check("embedding")
            block = texts[begin : begin + _TEXTS_PER_EMBEDDING]
            made = embedder.embed(block, limit=self._limit)
            if made.shape != (len(block), embedder.dimension):
                raise RagIndexError(
                    ReasonCode.RAG_EMBEDDER_MISMATCH,
                    f"the embedder {embedder.identity!r} gave an array of shape {made.shape};"
                    f" expected {(len(block), embedder.dimension)}",
                )
            vectors[begin : begin + len(block)] = made
        return normalized(vectors)

    def _delete_all_but(self, present: set[str]) -> None:
        gone = [known.id for source, known in self._known.items() if source not in present]
        if not gone:
            return
        with self._parts.store.writing() as connection:
            for number in gone:
                delete_document(connection, number)
        self._tally.deleted += len(gone)
