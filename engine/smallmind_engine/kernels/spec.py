"""What a backend has to compute: the shape of a transformer, as plain data.

One description covers all supported families; what differs between them is a value here, not a
branch on a name. Which optional tensors a layer has (biases, extra norms) is read off the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.gguf import QuantType

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class NormKind(StrEnum):
    """How a layer's input is normalised."""

    RMS = "rms"
    LAYER = "layer"


class Activation(StrEnum):
    """The non-linearity of the feed-forward block."""

    SILU = "silu"
    GELU_TANH = "gelu_tanh"
    GELU_ERF = "gelu_erf"


class RopeLayout(StrEnum):
    """Which pairs of a head's dimensions are rotated together."""

    NONE = "none"
    NORMAL = "normal"  # neighbours: (0, 1), (2, 3), ...
    NEOX = "neox"  # halves: (0, d/2), (1, d/2 + 1), ...


@dataclass(frozen=True, slots=True)
class RopeTable:
    """Rotation speeds of one kind of layer.

    Attributes:
        inverse_frequencies: radians a position, one for each rotated pair, float64.
        magnitude: factor on sine and cosine (YaRN and LongRoPE use one other than 1).
    """

    inverse_frequencies: tuple[float, ...]
    magnitude: float = 1.0


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What may differ from layer to layer.

    Attributes:
        window: a position sees this many last positions, itself included; None for all.
        rope: the layer's rotation; None without rotary embedding.
    """

    window: int | None
    rope: RopeTable | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerSpec:
    """A transformer: a decoder that predicts the next token, or an encoder that only reads.

    Attributes:
        architecture: the family's name in GGUF files.
        width: size of the residual stream.
        n_heads: query heads; ``n_kv_heads`` divides it.
        head_dim: size of a query or key head; ``value_dim`` of a value head.
        ffn_width: inner size of the feed-forward block; ``gated`` ones have two such matrices.
        context_length: positions that the model was trained for.
        embedding_scale: factor on the embedding rows.
        attention_scale: factor on query-key products.
        attention_softcap: scores are squashed to this range by tanh; None for not at all.
        logit_softcap: likewise for the logits.
        learned_positions: whether a table of position embeddings is added.
        causal: whether a position sees only those before it; encoders see the whole text, and
            have neither KV cache nor output matrix.
        norm_after: whether norms stand behind the residual sums, not before the blocks.
        layers: one for each layer, in order.
    """

    architecture: str
    width: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    value_dim: int
    ffn_width: int
    vocab_size: int
    context_length: int
    norm: NormKind
    norm_eps: float
    activation: Activation
    gated: bool
    rope_layout: RopeLayout
    embedding_scale: float
    attention_scale: float
    attention_softcap: float | None
    logit_softcap: float | None
    learned_positions: bool
    causal: bool = True
    norm_after: bool = False
    layers: tuple[LayerSpec, ...]

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token adds to the KV cache, over all layers."""
        if not self.causal:
            return 0
        return self.n_layers * self.n_kv_heads * (self.head_dim + self.value_dim)


class WeightSource(Protocol):
    """Where a backend takes its weights from; a GGUF file is one."""

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape, outermost dimension first."""
        ...

    def floats(
        self,
        name: str,
        *,
        rows: slice | None = None,
        out: FloatArray | None = None,
        limit: WorkLimit = NO_LIMIT,
    ) -> FloatArray:
        """Its values (or those of some rows) as float32, written into ``out`` when given.

        Raises:
            OperationCancelledError: ``limit`` was exceeded.
        """
        ...

    def qtype(self, name: str) -> QuantType:
        """How its numbers are stored."""
        ...

    def data(self, name: str, *, rows: slice | None = None) -> npt.NDArray[np.uint8]:
        """Its bytes (or those of some rows), in the little-endian form of its type."""
        ...

    def release(self, name: str) -> None:
        """Say that its bytes are not needed for now, so that they need not stay in memory."""
        ...
