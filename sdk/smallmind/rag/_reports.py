"""What an indexing run tells: how far it is, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from smallmind_engine.telemetry import ReasonCode


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far an indexing run is.

    Attributes:
        documents: looked at so far.
        total_documents: of the collection.
        chunks: written so far in this run.
    """

    documents: int
    total_documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class DocumentFailure:
    """A document that could not be indexed; what the index held of it before is still there.

    Attributes:
        source: its name within the collection.
        reason: code.
        message: one line for people.
    """

    source: str
    reason: ReasonCode
    message: str


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What came of an indexing run.

    Attributes:
        added: documents that are new.
        updated: documents that were changed, or are to be cut or embedded otherwise.
        unchanged: documents that were left as they are.
        relabelled: of the unchanged ones, those that got other labels.
        deleted: documents that are gone.
        failed: documents that could not be read.
        chunks: written in this run.
        duration_s: seconds that it took.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    relabelled: int = 0
    deleted: int = 0
    failed: tuple[DocumentFailure, ...] = ()
    chunks: int = 0
    duration_s: float = 0.0
