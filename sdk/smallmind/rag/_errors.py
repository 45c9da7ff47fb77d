"""Errors of retrieval; all belong to the family of ``SmallMindError``.

RagError (RuntimeError)
├── InsufficientEvidenceError  nothing that was found is good enough to answer from
├── RagIndexError              an index cannot be opened or used
├── RagBudgetError             a limit of chunks, bytes or tokens leaves no room
└── DocumentError (ValueError) a document cannot be read, or is not there for this user
"""

from __future__ import annotations

from smallmind_engine.telemetry import SmallMindError


class RagError(SmallMindError, RuntimeError):
    """Root of the errors of retrieval."""


class InsufficientEvidenceError(RagError):
    """Nothing that was found is good enough; ``details["retrieval"]`` holds what was."""


class RagIndexError(RagError):
    """An index cannot be opened or used."""


class RagBudgetError(RagError):
    """A limit of chunks, bytes or tokens leaves no room for what was asked for."""


class DocumentError(RagError, ValueError):
    """A document cannot be read, or is not there for this user."""
