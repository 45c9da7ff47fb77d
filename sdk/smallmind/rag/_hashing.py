"""An embedder without a model: words and parts of words, hashed into a fixed number of places."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import regex

from smallmind.rag._embedding import FloatArray, normalized
from smallmind.rag._fusion import FusionOptions
from smallmind.rag._words import STOP_WORDS
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError

_WORDS: Final = regex.compile(r"[\p{L}\p{M}]+|\p{N}+")
_SHORTEST, _LONGEST = 3, 5
_PART_WEIGHT: Final = 0.25
_TEXTS_BETWEEN_CHECKS: Final = 32
_LEAST_DIMENSION: Final = 16
_WORDS_KEPT: Final = 1 << 15
_SIGN: Final = np.uint32(1 << 31)
_FUSION: Final = FusionOptions(constant=2.0, dense_weight=0.5)
"""Measured: vectors without meaning help most when words count for more."""

_Places = npt.NDArray[np.intp]
_Weights = npt.NDArray[np.float64]


class HashingEmbedder:
    """Feature hashing: needs no model, knows no meaning, finds related spellings.

    The same text gives the same vector in every process and on every machine (CRC-32, not the
    salted hash of Python). Use the embedder of a model where there is one.

    Args:
        dimension: places that words are hashed into.

    Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning".
    """

    def __init__(self, dimension: int = 512) -> None:
        if dimension < _LEAST_DIMENSION:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"dimension is {dimension}; it must be at least {_LEAST_DIMENSION}",
                option="dimension",
                value=dimension,
            )
        self._dimension = dimension
        self._features = lru_cache(maxsize=_WORDS_KEPT)(self._features_of)

    @property
    def identity(self) -> str:
        """Its version and width."""
        return f"hashing-v1:{self._dimension}"

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return self._dimension

    @property
    def fusion(self) -> FusionOptions:
        """Words count for twice as much as these vectors; see the explanation of retrieval."""
        return _FUSION

    def embed(self, texts: Sequence[str], /, *, limit: WorkLimit = NO_LIMIT) -> FloatArray:
        """Vectors of length 1; a text without a word has the vector of zeros."""
        vectors = np.zeros((len(texts), self._dimension), np.float32)
        for number, text in enumerate(texts):
            if number % _TEXTS_BETWEEN_CHECKS == 0:
                limit.check("embedding")
            self._add(text, vectors[number])
        return normalized(vectors)

    def _add(self, text: str, vector: FloatArray) -> None:
        words = Counter(word for word in _WORDS.findall(text.casefold()) if word not in STOP_WORDS)
        if not words:
            return
        found = [self._features(word) for word in words]
        # Repetition counts for less and less.
        strengths = 1.0 + np.log(np.fromiter(words.values(), np.float64, len(words)))
        sizes = [len(places) for places, _ in found]
        weights = np.concatenate([weight for _, weight in found]) * np.repeat(strengths, sizes)
        places = np.concatenate([places for places, _ in found])
        vector += np.bincount(places, weights, self._dimension).astype(np.float32)

    def _features_of(self, word: str) -> tuple[_Places, _Weights]:
        """Where a word and its parts go, and with which weight and sign."""
        names = [f"w:{word}", *(f"p:{part}" for part in _parts(word))]
        hashes = np.array([zlib.crc32(name.encode()) for name in names], np.uint32)
        weights = np.full(len(names), _PART_WEIGHT)
        weights[0] = 1.0
        # The highest bit is the sign: unrelated words that share a place cancel out on average.
        weights[hashes >= _SIGN] *= -1.0
        return (hashes % np.uint32(self._dimension)).astype(np.intp), weights


def _parts(word: str) -> Iterator[str]:
    marked = f"<{word}>"
    for length in range(_SHORTEST, _LONGEST + 1):
        for start in range(len(marked) - length + 1):
            yield marked[start : start + length]
