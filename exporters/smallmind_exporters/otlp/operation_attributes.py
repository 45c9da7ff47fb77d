"""The attributes of retrievals and embeddings, in the words of the GenAI conventions.

Neither the question nor any text is among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from smallmind_engine.telemetry import EmbeddingEnded, ReasonCode, RequestStatus, RetrievalEnded
from smallmind_exporters import conventions

REQUEST_ID: Final = "smallmind.request_id"
RETRIEVAL_PREFIX: Final = "smallmind.retrieval."
EMBEDDING_PREFIX: Final = "smallmind.embedding."

_FAILED: Final = frozenset({RequestStatus.FAILED, RequestStatus.REJECTED})

MEANINGS: Final[Mapping[str, Mapping[str, str]]] = {
    conventions.OPERATION_RETRIEVAL: {
        conventions.OPERATION_NAME: "always `retrieval`",
        conventions.PROVIDER_NAME: f"always `{conventions.PROVIDER}`",
        conventions.DATA_SOURCE_ID: "name of the index",
        conventions.REQUEST_TOP_K: "sources that were asked for",
        conventions.CONVERSATION_ID: "the session's id, in a session",
        conventions.ERROR_TYPE: "class of the error, when it failed",
        REQUEST_ID: "the id of the request that the sources are for",
        f"{RETRIEVAL_PREFIX}status": "`completed`, `cancelled` or `failed`",
        f"{RETRIEVAL_PREFIX}reason": "why it did not complete, or its sources are not good enough",
        f"{RETRIEVAL_PREFIX}mode": "`lexical`, `dense` or `hybrid`",
        f"{RETRIEVAL_PREFIX}embedder": "what turned the question into a vector",
        f"{RETRIEVAL_PREFIX}candidates": "chunks that were ranked",
        f"{RETRIEVAL_PREFIX}returned": "chunks that were given back",
        f"{RETRIEVAL_PREFIX}returned_bytes": "their text in UTF-8",
        f"{RETRIEVAL_PREFIX}best_similarity": "cosine of the question and the nearest chunk",
        f"{RETRIEVAL_PREFIX}phase.<phase>": "seconds on `embed`, `lexical`, `dense` and so on",
    },
    conventions.OPERATION_EMBEDDINGS: {
        conventions.OPERATION_NAME: "always `embeddings`",
        conventions.PROVIDER_NAME: f"always `{conventions.PROVIDER}`",
        conventions.REQUEST_MODEL: "name under which the model was loaded",
        conventions.RESPONSE_MODEL: "the same model",
        conventions.EMBEDDINGS_DIMENSION_COUNT: "numbers of a vector",
        conventions.USAGE_INPUT_TOKENS: "tokens of all texts",
        conventions.ERROR_TYPE: "class of the error, when it failed or was turned away",
        REQUEST_ID: "the id of the request",
        f"{EMBEDDING_PREFIX}status": "`completed`, `cancelled`, `rejected` or `failed`",
        f"{EMBEDDING_PREFIX}reason": "reason code of its end",
        f"{EMBEDDING_PREFIX}backend": "what computed",
        f"{EMBEDDING_PREFIX}pooling": "how states of tokens became a vector",
        f"{EMBEDDING_PREFIX}texts": "how many texts",
        f"{EMBEDDING_PREFIX}truncated": "those of them that were cut",
        f"{EMBEDDING_PREFIX}queue_s": "seconds of it spent waiting",
    },
}
"""What the attributes of each operation mean, for the reference page."""


def retrieval_attributes(end: RetrievalEnded) -> Mapping[str, object]:
    """Of a search for sources."""
    facts: dict[str, object] = {
        conventions.OPERATION_NAME: conventions.OPERATION_RETRIEVAL,
        conventions.PROVIDER_NAME: conventions.PROVIDER,
        conventions.DATA_SOURCE_ID: end.data_source,
        conventions.REQUEST_TOP_K: float(end.top_k),
        conventions.CONVERSATION_ID: end.correlation.session_id,
        conventions.ERROR_TYPE: retrieval_failure(end),
        REQUEST_ID: end.correlation.request_id,
        f"{RETRIEVAL_PREFIX}status": end.status.value,
        f"{RETRIEVAL_PREFIX}reason": None if end.reason is None else end.reason.value,
        f"{RETRIEVAL_PREFIX}mode": end.mode,
        f"{RETRIEVAL_PREFIX}embedder": end.embedder or None,
        f"{RETRIEVAL_PREFIX}candidates": end.candidates,
        f"{RETRIEVAL_PREFIX}returned": end.returned,
        f"{RETRIEVAL_PREFIX}returned_bytes": end.returned_bytes,
        f"{RETRIEVAL_PREFIX}best_similarity": end.best_similarity,
    }
    return facts | {f"{RETRIEVAL_PREFIX}phase.{phase}": s for phase, s in end.phases}


def retrieval_failure(end: RetrievalEnded) -> str | None:
    """What failed; None for what went well, was stopped, or found too little."""
    return _failure(end.status, end.error_type, end.reason)


def embedding_attributes(end: EmbeddingEnded) -> Mapping[str, object]:
    """Of texts that became vectors."""
    return {
        conventions.OPERATION_NAME: conventions.OPERATION_EMBEDDINGS,
        conventions.PROVIDER_NAME: conventions.PROVIDER,
        conventions.REQUEST_MODEL: end.model,
        conventions.RESPONSE_MODEL: end.model,
        conventions.EMBEDDINGS_DIMENSION_COUNT: end.dimension,
        conventions.USAGE_INPUT_TOKENS: end.tokens,
        conventions.ERROR_TYPE: embedding_failure(end),
        REQUEST_ID: end.correlation.request_id,
        f"{EMBEDDING_PREFIX}status": end.status.value,
        f"{EMBEDDING_PREFIX}reason": end.reason.value,
        f"{EMBEDDING_PREFIX}backend": end.backend,
        f"{EMBEDDING_PREFIX}pooling": end.pooling,
        f"{EMBEDDING_PREFIX}texts": end.texts,
        f"{EMBEDDING_PREFIX}truncated": end.truncated,
        f"{EMBEDDING_PREFIX}queue_s": end.queue_s,
    }


def embedding_failure(end: EmbeddingEnded) -> str | None:
    """What failed; None for what went well or was stopped."""
    return _failure(end.status, end.error_type, end.reason)


def _failure(status: RequestStatus, error_type: str, reason: ReasonCode | None) -> str | None:
    if status not in _FAILED:
        return None
    return error_type or ("" if reason is None else reason.value)
