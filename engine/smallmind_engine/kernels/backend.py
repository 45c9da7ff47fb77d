"""The kernel interface: a backend prepares a model's weights and runs steps over sequences.

The unit of work is a whole step (all layers) over chunks of several sequences, so that a backend
may fuse layers and batch sequences as it likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from smallmind_engine.cache import KVCache, KVType
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.kernels.ceilings import Ceilings
from smallmind_engine.kernels.compile_report import CompileReport
from smallmind_engine.kernels.spec import FloatArray, IntArray, TransformerSpec, WeightSource
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

Progress = Callable[[int, int], None]
"""Told of bytes done and bytes in all."""


class WeightsMode(StrEnum):
    """Where dequantised weights live."""

    RESIDENT = "resident"  # all in memory, dequantised once
    PER_LAYER = "per_layer"  # one layer at a time, dequantised anew in each step


class LogitsWanted(StrEnum):
    """Which rows of logits a chunk asks for, or what it asks for instead."""

    NONE = "none"
    LAST = "last"
    ALL = "all"
    BEST = "best"  # not the row itself, but where the last one is highest
    HIDDEN = "hidden"  # no logits, but the states that they would be made of, of all tokens


class BestToken(NamedTuple):
    """The highest entry of a row of logits; the lowest id among equals."""

    token_id: int
    logit: float


def best_of(logits: FloatArray) -> BestToken | FloatArray:
    """Where a row of logits, shape (V,), is highest; the row itself when that is not finite."""
    token_id = int(logits.argmax())  # the first NaN, when there is one
    highest = float(logits[token_id])
    return BestToken(token_id, highest) if math.isfinite(highest) else logits


class Chunk(NamedTuple):
    """New tokens of one sequence.

    Attributes:
        token_ids: T of them; they follow the tokens already in ``cache``.
        cache: the sequence's KV cache, with room for T more tokens.
        logits: what to return of the logits.
    """

    token_ids: Sequence[int] | IntArray
    cache: KVCache
    logits: LogitsWanted


Output = FloatArray | BestToken | None
"""What a step returns for a chunk."""


class OperationTime(NamedTuple):
    """What an operation of a step took, and what it had to do.

    A tuple, because a step has hundreds of them, and a dataclass takes three times as long to make.

    Attributes:
        op: which operation; a backend has few names.
        layer: index; None for what belongs to none.
        quantization: types of what it read, joined with ``+``.
        tokens: rows that went through it.
        seconds: wall time.
        n_bytes: read: weights, cached keys and values, and activations, each counted once.
        flops: multiplications and additions, of integers too.
    """

    op: str
    layer: int | None
    quantization: str
    tokens: int
    seconds: float
    n_bytes: int
    flops: int


OnOperations = Callable[[Sequence[OperationTime]], None]
"""Told of the operations of a step, in the order in which they ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchRequest:
    """What steps are to be expected.

    Attributes:
        mode: where the weights live.
        context_length: positions of the longest sequence.
        sequences: that take part in a step at most.
        threads: that compute at once.
    """

    mode: WeightsMode
    context_length: int
    sequences: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRequest:
    """How a model is to be brought into a backend's form.

    Attributes:
        mode: where the weights live.
        kv_type: what KV caches store; None for the backend's own choice.
        threads: that compute at once; None for as many as this process may use.
        fingerprint: identity of the model's content, for backends that keep packed weights.
        keep_packed: whether packed weights are kept on disk for the next load.
        limit: stops the work.
        on_progress: told of a phase (``kernels`` or ``weights``), what is done, and of how much.
        on_kernels: told once how the kernels were made ready, and of their instructions.
        on_unsaved: told why packed weights could not be kept.
        on_converted: told of a tensor's name and type, and the type it is computed in.
        on_ceilings: told what the machine can do at most, which is measured for this alone.
    """

    mode: WeightsMode
    kv_type: KVType | None = None
    threads: int | None = None
    fingerprint: str = ""
    keep_packed: bool = False
    limit: WorkLimit = NO_LIMIT
    on_progress: Callable[[str, int, int], None] | None = None
    on_kernels: Callable[[CompileReport, str], None] | None = None
    on_unsaved: Callable[[str], None] | None = None
    on_converted: Callable[[str, str, str], None] | None = None
    on_ceilings: Callable[[Ceilings], None] | None = None


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
    def kv_type(self) -> KVType:
        """What its KV caches store."""
        ...

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory that one token takes in a KV cache, over all layers."""
        ...

    @property
    def batch_invariant(self) -> bool:
        """Whether a sequence gets the same bits however it is cut and batched."""
        ...

    @property
    def prefill_chunk(self) -> int:
        """How many tokens of a prompt a step takes at most for good speed."""
        ...

    def new_cache(self, capacity: int) -> KVCache:
        """An empty KV cache with room for ``capacity`` tokens."""
        ...

    def forward(
        self,
        chunks: Sequence[Chunk],
        limit: WorkLimit = NO_LIMIT,
        on_operations: OnOperations | None = None,
    ) -> list[Output]:
        """Run one step.

        The keys and values of the new tokens are added to the caches.

        Args:
            chunks: new tokens, of a different sequence each.
            limit: stops the step between layers; the caches are then as they were before.
            on_operations: told of the operations at the step's end; nothing is timed without it.

        Returns:
            For each chunk its logits: shape (V,) for ``LAST``, (T, V) for ``ALL``, the best token
            for ``BEST`` (the row when its highest entry is not finite), hidden states behind the
            last norm, shape (T, C), for ``HIDDEN``, else None. The arrays are the caller's to
            keep. An encoder gives hidden states only, and a chunk is a whole text to it.

        Raises:
            OperationCancelledError: ``limit`` was exceeded.
            ContextOverflowError: a cache has no room for its chunk.
            UnsupportedModelError: logits of an encoder were asked for.
        """
        ...

    def find_non_finite(self, token_ids: IntArray) -> str:
        """Compute tokens from an empty cache, and look at what each layer makes of them.

        Args:
            token_ids: shape (T,), int64.

        Returns:
            Where NaN or infinity is first: ``embedding``, ``layer 7`` (from 0) or ``output``;
            empty when all is finite.
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

    @property
    def modes(self) -> tuple[WeightsMode, ...]:
        """Where its weights can live, the best first."""
        ...

    def runs(self, spec: TransformerSpec) -> bool:
        """Whether it has what this kind of model needs."""
        ...

    def weight_bytes(self, spec: TransformerSpec, source: WeightSource, mode: WeightsMode) -> int:
        """Memory that ``prepare`` would take for good, known before it is taken."""
        ...

    def kv_bytes_per_token(self, spec: TransformerSpec, kv_type: KVType | None) -> int:
        """Memory of one token in a KV cache over all layers; None for the backend's own type."""
        ...

    @property
    def kv_types(self) -> tuple[KVType, ...]:
        """What its KV caches can store, its own choice first."""
        ...

    @property
    def kernels_bytes(self) -> int:
        """Memory of its compiled kernels and their compiler, which a process has once."""
        ...

    def scratch_bytes(self, spec: TransformerSpec, request: ScratchRequest) -> int:
        """Memory that steps take at most for what they compute in between."""
        ...

    def largest_tensor(
        self, spec: TransformerSpec, source: WeightSource, mode: WeightsMode
    ) -> tuple[str, int]:
        """Name and bytes of the largest tensor that it holds in one piece."""
        ...

    def prepare(
        self, spec: TransformerSpec, source: WeightSource, request: PrepareRequest
    ) -> ModelRunner:
        """Bring the weights into the backend's form.

        Raises:
            ConfigError: the backend has no such mode, or no such type of KV cache.
            OperationCancelledError: the request's limit was exceeded.
            ModelFileError: a tensor is missing or has the wrong shape.
        """
        ...


def refuse_choice(option: str, value: str, backend: str, allowed: Sequence[str]) -> ConfigError:
    """The error for something that a backend does not have."""
    return ConfigError(
        ReasonCode.OPTION_INVALID,
        f"{option} is {value!r}; the backend {backend!r} takes {', '.join(allowed)}",
        option=option,
        value=value,
    )
