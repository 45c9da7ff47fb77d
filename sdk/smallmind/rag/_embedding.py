"""Embedders: what turns texts into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from smallmind.rag._fusion import FusionOptions
from smallmind_engine.control import WorkLimit

FloatArray = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors of one length. Called from several threads.

    It may have a ``fusion`` as well, the ``FusionOptions`` that its vectors are best searched with.
    """

    @property
    def identity(self) -> str:
        """Names the model and whatever else its vectors depend on.

        An index keeps it with its vectors, and never compares those of different identities.
        """
        ...

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        ...

    def embed(self, texts: Sequence[str], /, *, limit: WorkLimit) -> FloatArray:
        """Vectors of ``texts``.

        Args:
            texts: any strings.
            limit: stops the work.

        Returns:
            Shape ``(len(texts), dimension)``, float32. They need not be of length 1.

        Raises:
            OperationCancelledError: the limit was reached.
        """
        ...


@runtime_checkable
class KnowsFusion(Protocol):
    """What an embedder may have besides."""

    @property
    def fusion(self) -> FusionOptions:
        """How its ranking is best merged with that of the words."""
        ...


def fusion_of(embedder: Embedder | None) -> FusionOptions:
    """How rankings are merged with those of ``embedder`` when nobody says otherwise."""
    return embedder.fusion if isinstance(embedder, KnowsFusion) else FusionOptions()


def normalized(vectors: npt.NDArray[np.floating]) -> FloatArray:
    """Rows of length 1, so that their products are cosines; rows of zeros stay so."""
    rows = np.ascontiguousarray(vectors, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = np.zeros_like(rows)
    np.divide(rows, lengths, out=unit, where=lengths > 0.0)
    return unit
