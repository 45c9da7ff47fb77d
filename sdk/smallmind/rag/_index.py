"""An index: documents on disk, cut into chunks, to be searched by words and by vectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from smallmind.rag._access import Authorizer, LabelAuthorizer, LabelRule, UserContext
from smallmind.rag._chunking import ChunkingOptions
from smallmind.rag._citations import Citation
from smallmind.rag._documents import DocumentSource
from smallmind.rag._embedding import Embedder
from smallmind.rag._errors import DocumentError
from smallmind.rag._extraction import EXTRACTORS, Extractor
from smallmind.rag._grounding import GroundingRules
from smallmind.rag._indexing import IndexingParts, IndexingRun, IndexLimits
from smallmind.rag._reports import IndexProgress, IndexReport
from smallmind.rag._results import RetrievalResult
from smallmind.rag._retrieval import Retrieval, RetrieverParts
from smallmind.rag._retrieval_options import Reranker, RetrievalOptions
from smallmind.rag._rows import text_of, totals
from smallmind.rag._search import visible_label_sets
from smallmind.rag._store import IndexStore
from smallmind.rag._tokens import TokenCounter, approximate_tokens
from smallmind.rag._vectors import VectorCache
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry import (
    Correlation,
    EventBus,
    ReasonCode,
    RuntimeLoggerAdapter,
    correlated,
    new_correlation,
)


@dataclass(frozen=True, slots=True)
class IndexCounts:
    """What an index holds.

    Attributes:
        documents: of all collections.
        chunks: of all documents.
        text_bytes: of the text of all chunks.
        vectors: chunks that have a vector of the embedder the index was opened with.
        file_bytes: size on disk: of the file, and of SQLite's write-ahead log and its index beside
            it (``-wal``, ``-shm``), which hold what is not yet in the file.
    """

    documents: int
    chunks: int
    text_bytes: int
    vectors: int
    file_bytes: int


class RagIndex:
    """Thread-safe: any number of threads may search while one of them indexes.

    Each search sees one state of the index, the one at its beginning. Several processes may share
    the file; of those that index, one writes at a time. Use it in a ``with`` block, or call
    ``close``.

    Args:
        path: the file; made when it is not there, for its owner alone to read.
        embedder: makes vectors; None for an index of words only.
        chunking: how texts are cut.
        count_tokens: counts for ``chunking``; nearly right for any model when None.
        authorizer: decides who sees documents with labels; when None, who holds all of them.
        limits: what it may hold.
        extractors: read documents, by the end of the name.
        name: in events and metrics; that of the file when None.
        bus: where indexing and searching are told; a pipeline tells on its engine's bus.

    Raises:
        RagIndexError: the file is no index, of a newer version, damaged, or cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        chunking: ChunkingOptions | None = None,
        count_tokens: TokenCounter = approximate_tokens,
        authorizer: Authorizer | None = None,
        limits: IndexLimits | None = None,
        extractors: Mapping[str, Extractor] = EXTRACTORS,
        name: str | None = None,
        bus: EventBus | None = None,
    ) -> None:
        self._store = IndexStore(Path(path))
        self._bus = bus or EventBus()
        self._authorizer = authorizer or LabelAuthorizer()
        self._name = name or Path(path).stem
        vectors = None if embedder is None else VectorCache(embedder.identity, embedder.dimension)
        self._searching = RetrieverParts(
            name=self._name,
            store=self._store,
            embedder=embedder,
            vectors=vectors,
            authorizer=self._authorizer,
        )
        self._indexing = IndexingParts(
            store=self._store,
            embedder=embedder,
            chunking=chunking or ChunkingOptions(),
            count=count_tokens,
            extractors=extractors,
            limits=limits or IndexLimits(),
            log=RuntimeLoggerAdapter("rag", self._bus),
        )

    @property
    def name(self) -> str:
        """In events and metrics."""
        return self._name

    @property
    def path(self) -> Path:
        """The file."""
        return self._store.path

    @property
    def authorizer(self) -> Authorizer:
        """Decides who sees documents with labels."""
        return self._authorizer

    @property
    def embedder(self) -> Embedder | None:
        """Makes vectors; None for an index of words only."""
        return self._searching.embedder

    # -- indexing -----------------------------------------------------------------------------

    def update(
        self,
        source: DocumentSource,
        *,
        label_rules: Iterable[LabelRule] | None = None,
        cancellation: CancellationToken | None = None,
        timeout: float | None = None,
        on_progress: Callable[[IndexProgress], None] | None = None,
    ) -> IndexReport:
        """Make the index hold what ``source`` gives: what is new or changed, without what is gone.

        It may be stopped or killed at any moment; the next run goes on from there.

        Args:
            source: all documents of a collection.
            label_rules: give labels to documents; kept with the collection, and used again by
                later runs that pass None.
            cancellation: stops it.
            timeout: seconds until it is stopped.
            on_progress: told after each document.

        Raises:
            OperationCancelledError: stopped; ``details["report"]`` tells what was done.
            DocumentError: a folder cannot be listed; nothing is deleted then.
            MissingExtraError: a parser is not installed.
            RagBudgetError: the index may not hold more.
            RagIndexError: the index cannot be written.
        """
        limit = WorkLimit.within(timeout, cancellation)
        with correlated(new_correlation()):
            return IndexingRun(self._indexing, source, label_rules, limit, on_progress).run()

    def counts(self) -> IndexCounts:
        """What it holds now."""
        embedder = self._indexing.embedder_id
        with self._store.reading() as connection:
            (documents,) = connection.execute("SELECT count(*) FROM documents").fetchone()
            chunks, size = totals(connection)
            (vectors,) = connection.execute(
                "SELECT count(*) FROM chunks JOIN documents ON documents.id = chunks.document"
                " WHERE documents.embedder = ? AND chunks.vector IS NOT NULL",
                (embedder,),
            ).fetchone()
        return IndexCounts(documents, chunks, size, vectors, self._store.disk_bytes())

    # -- searching ----------------------------------------------------------------------------

    def retrieve(
        self,
        question: str,
        *,
        user: UserContext | None = None,
        options: RetrievalOptions | None = None,
        rules: GroundingRules | None = None,
        reranker: Reranker | None = None,
        limit: WorkLimit | None = None,
        bus: EventBus | None = None,
        correlation: Correlation | None = None,
    ) -> RetrievalResult:
        """The chunks that fit a question best, among those that ``user`` may see.

        Args:
            question: any text.
            user: for whom; None sees only what is public.
            options: how.
            rules: when a chunk is good enough; only told in the result.
            reranker: judges the best chunks anew.
            limit: stops it.
            bus: where it is told, instead of the index's own.
            correlation: ids of the request that the chunks are for; fresh ones when None.

        Raises:
            OperationCancelledError: the limit was reached.
            RagIndexError: the index is damaged, or has no vectors of this embedder.
            ConfigError: vectors are asked for of an index without, or a re-ranker misbehaves.
            ClosedError: the index is closed.
        """
        ids = correlation or new_correlation()
        return Retrieval(
            self._searching,
            options or RetrievalOptions(),
            rules or GroundingRules(),
            reranker,
            (bus or self._bus).emitter(ids),
            limit or WorkLimit(),
        ).run(question, user)

    def document_text(
        self, collection: str, source: str, *, user: UserContext | None = None
    ) -> str:
        """The text that was extracted from a document; character ranges point into it.

        Raises:
            DocumentError: it is not in the index, or ``user`` may not see it: which of the two
                is not told.
        """
        return self._document(collection, source, user)[0]

    def resolve(self, citation: Citation, *, user: UserContext | None = None) -> str:
        """The characters that a citation points at, read from the document again.

        Raises:
            DocumentError: the document is not there for ``user``, or was changed since.
        """
        text, content_hash = self._document(citation.collection, citation.source, user)
        cited = text[citation.start : citation.end]
        if content_hash != citation.content_hash or cited != citation.text:
            raise DocumentError(
                ReasonCode.RAG_SOURCE_CHANGED,
                f"{citation.source!r} was changed since it was cited",
                hint="ask again; the citation itself carries the text that was used",
                source=citation.source,
            )
        return cited

    def _document(self, collection: str, source: str, user: UserContext | None) -> tuple[str, str]:
        with self._store.reading() as connection:
            allowed = visible_label_sets(connection, user, self._authorizer)
            row = connection.execute(
                "SELECT text, content_hash, label_set FROM documents"
                " WHERE collection = ? AND source = ?",
                (collection, source),
            ).fetchone()
        if row is None or row[2] not in allowed:
            raise DocumentError(
                ReasonCode.RAG_SOURCE_CHANGED,
                f"there is no document {source!r} for this user",
                hint="it was deleted, or the user may not see it",
                source=source,
            )
        return text_of(row[0]), row[1]

    def close(self) -> None:
        """Let go of the file. May be called again."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
