"""The kernel interface: a backend prepares a model's weights and runs steps over sequences.

The unit of work is a whole step (all layers) over chunks of several sequences, so that a backend
may fuse layers and batch sequences as it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from smallmind_engine.cache import KVCache
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.kernels.spec import FloatArray, IntArray, TransformerSpec, WeightSource

Progress = Callable[[int, int], None]
"""Told of bytes done and bytes in all."""


class WeightsMode(StrEnum):
    """Where dequantised weights live."""

    RESIDENT = "resident"  # all in memory, dequantised once
    PER_LAYER = "per_layer"  # one layer at a time, dequantised anew in each step


class LogitsWanted(StrEnum):
    """Which rows of logits a chunk asks for."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Chunk:
    """New tokens of one sequence.

    Attributes:
        token_ids: shape (T,), int64; they follow the tokens already in ``cache``.
        cache: the sequence's KV cache, with room for T more tokens.
        logits: which rows of logits to return.
    """

    token_ids: IntArray
    cache: KVCache
    logits: LogitsWanted


class ModelRunner(Protocol):
    """A model that is ready to run. Thread-safe, as long as no two calls share a KV cache."""

    @property
    def backend(self) -> str:
        """Name of the backend."""
        ...

    @property
    def weights_mode(self) -> WeightsMode:
        """Where the dequantised weights live."""
        ...

    @property
    def weight_bytes(self) -> int:
        """Memory that the prepared weights take."""
        ...

    @property
    def scratch_bytes(self) -> int:
        """Memory that the activation buffers take now."""
        ...

    @property
    def prefill_chunk(self) -> int:
        """How many tokens of a prompt a step takes at most for good speed."""
        ...

    def new_cache(self, capacity: int) -> KVCache:
        """An empty KV cache with room for ``capacity`` tokens."""
        ...

    def forward(
        self, chunks: Sequence[Chunk], limit: WorkLimit = NO_LIMIT
    ) -> list[FloatArray | None]:
        """Run one step.

        The keys and values of the new tokens are added to the caches.

        Args:
            chunks: new tokens, of a different sequence each.
            limit: stops the step between layers; the caches are then as they were before.

        Returns:
            For each chunk its logits: shape (V,) for ``LAST``, (T, V) for ``ALL``, else None.
            The arrays are the caller's to keep.

        Raises:
            OperationCancelledError: ``limit`` was exceeded.
            ContextOverflowError: a cache has no room for its chunk.
        """
        ...

    def close(self) -> None:
        """Let go of the weights."""
        ...


class Backend(Protocol):
    """A way of computing."""

    @property
    def name(self) -> str:
        """Short lower-case name."""
        ...

    def weight_bytes(self, spec: TransformerSpec, source: WeightSource, mode: WeightsMode) -> int:
        """Memory that ``prepare`` would take for good, known before it is taken."""
        ...

    def prepare(
        self,
        spec: TransformerSpec,
        source: WeightSource,
        mode: WeightsMode,
        *,
        limit: WorkLimit,
        on_progress: Progress | None = None,
    ) -> ModelRunner:
        """Bring the weights into the backend's form.

        Raises:
            OperationCancelledError: ``limit`` was exceeded.
            ModelFileError: a tensor is missing or has the wrong shape.
        """
        ...
