"""An embedder that asks a model: an encoder, or any other model that an engine can embed with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from smallmind.rag._embedding import FloatArray
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.telemetry import current_correlation

_LEAST_TIMEOUT_S = 1e-3


class Embeds(Protocol):
    """What is needed of an engine; ``smallmind.Engine`` has it."""

    @property
    def model(self) -> Any:
        """With a ``name`` and a ``fingerprint``."""
        ...

    def embed(self, texts: Sequence[str], **options: Any) -> Any:
        """Vectors of texts, as ``vectors`` of the answer."""
        ...


class EngineEmbedder:
    """Vectors by ``Engine.embed``. Thread-safe, as the engine is; the engine stays the caller's.

    Texts that are longer than the model can read lose their ends.

    Args:
        engine: embeds; it may also be the one that answers, but an encoder finds better.
        prefix: put before every text, for models that were trained with one.
        options: more of ``Engine.embed``, such as ``pooling``.
    """

    def __init__(self, engine: Embeds, *, prefix: str = "", **options: Any) -> None:
        self._engine = engine
        self._prefix = prefix
        self._options = {"truncation": "end", **options}
        first = engine.embed([f"{prefix}."], **self._options)
        self._dimension = int(first.vectors.shape[1])
        words = ",".join(f"{name}={value}" for name, value in sorted(self._options.items()))
        model = engine.model
        self._identity = f"{model.name}:{model.fingerprint}:{first.pooling}:{words}:{prefix}"

    @property
    def identity(self) -> str:
        """The model by the content of its file, and how it is used."""
        return self._identity

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return self._dimension

    def embed(self, texts: Sequence[str], /, *, limit: WorkLimit = NO_LIMIT) -> FloatArray:
        """Vectors of ``texts``; an empty text is read as a full stop.

        Raises:
            OperationCancelledError: the limit was reached.
            SmallMindError: as ``Engine.embed`` does.
        """
        limit.check("embedding")
        if not texts:
            return np.zeros((0, self._dimension), np.float32)
        options: dict[str, Any] = {**self._options, "cancellation": limit.token}
        if limit.remaining_s is not None:
            options["request_timeout"] = max(limit.remaining_s, _LEAST_TIMEOUT_S)
        ids = current_correlation()
        if ids is not None:
            options |= {"request_id": ids.request_id, "traceparent": ids.traceparent}
            if ids.trace_state:
                options["tracestate"] = ids.trace_state
        made = self._engine.embed([self._prefix + (text or ".") for text in texts], **options)
        vectors: FloatArray = np.asarray(made.vectors, np.float32)
        return vectors
