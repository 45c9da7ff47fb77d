"""Pooling: from the states of a text's tokens to one vector."""

# T tokens, C width

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import numpy as np

from smallmind_engine.kernels import FloatArray
from smallmind_engine.model import LoadedModel
from smallmind_engine.telemetry.errors import UnsupportedModelError
from smallmind_engine.telemetry.reasons import ReasonCode


class Pooling(StrEnum):
    """How the states of a text's tokens become its vector."""

    MEAN = "mean"  # their mean
    CLS = "cls"  # the first one
    LAST = "last"  # the last one
    NONE = "none"  # all of them, one row each


_POOLED: Final[Mapping[Pooling, Callable[[FloatArray], FloatArray]]] = {
    Pooling.MEAN: lambda states: states.mean(axis=0, dtype=np.float64, keepdims=True).astype(
        np.float32
    ),
    Pooling.CLS: lambda states: states[:1],
    Pooling.LAST: lambda states: states[-1:],
    Pooling.NONE: lambda states: states,
}

_RANKING: Final = 4
_BY_NUMBER: Final[Mapping[int, Pooling]] = {1: Pooling.MEAN, 2: Pooling.CLS, 3: Pooling.LAST}
"""Values of the key ``pooling_type``; 0 leaves it open."""


def pooled(states: FloatArray, pooling: Pooling) -> FloatArray:
    """The vector of a text, or those of its tokens.

    Args:
        states: shape (T, C), with T at least 1.
        pooling: how.

    Returns:
        Shape (1, C), or (T, C) without pooling.
    """
    return _POOLED[pooling](states)


def normalized(vectors: FloatArray) -> FloatArray:
    """Each row scaled to length 1; rows of zeros stay as they are.

    >>> normalized(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    scaled: FloatArray = (vectors / np.where(lengths > 0.0, lengths, 1.0)).astype(np.float32)
    return scaled


def default_pooling(model: LoadedModel) -> Pooling:
    """What the model was trained for, as its file says; the mean where it says nothing.

    Raises:
        UnsupportedModelError: it ranks pairs of texts, and has no vectors of single ones.
    """
    number = model.file.metadata.get(f"{model.spec.architecture}.pooling_type")
    if number == _RANKING:
        raise UnsupportedModelError(
            ReasonCode.MODEL_ARCHITECTURE_UNSUPPORTED,
            f"the model {model.name!r} ranks pairs of texts; it was not trained to embed one",
            hint="name a pooling to take its states all the same",
        )
    return _BY_NUMBER.get(number, Pooling.MEAN) if isinstance(number, int) else Pooling.MEAN
