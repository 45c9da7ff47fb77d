"""The families of models that run here, as a table. A new one is one entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from smallmind_engine.gguf import MetadataValue, require_str
from smallmind_engine.kernels import (
    Activation,
    LayerSpec,
    NormKind,
    RopeLayout,
    RopeTable,
    TransformerSpec,
    WeightSource,
)
from smallmind_engine.model.hyperparameters import Hyperparameters
from smallmind_engine.model.rope import DEFAULT_BASE, plain_speeds, rope_base, rope_table
from smallmind_engine.telemetry.errors import GgufFormatError, UnsupportedModelError
from smallmind_engine.telemetry.reasons import ReasonCode

_EMBEDDING: Final = "token_embd.weight"
_GEMMA2_27B_LAYERS: Final = 46
_GEMMA3_27B_LAYERS: Final = 62

# Far above any model; they keep a damaged file from asking for tables without end.
_MAX_LAYERS: Final = 1 << 14
_MAX_HEAD_DIM: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What sets a family apart.

    Attributes:
        rope_layout: see ``RopeLayout``.
        norm: see ``NormKind``.
        activation: see ``Activation``.
        gated: whether the feed-forward block multiplies with a gate.
        scale_embeddings: whether embedding rows are scaled by the root of the width.
        window_pattern: every n-th layer sees everything, the others a window; 1: all alike.
        local_rope_base: base of the windowed layers when it differs from the others.
        wide_scale_layers: models with so many layers scale scores by width / heads.
        encoder: whether it only reads: all positions see each other, norms stand behind blocks.
    """

    rope_layout: RopeLayout
    norm: NormKind = NormKind.RMS
    activation: Activation = Activation.SILU
    gated: bool = True
    scale_embeddings: bool = False
    window_pattern: int = 1
    local_rope_base: float | None = None
    wide_scale_layers: int | None = None
    encoder: bool = False


ARCHITECTURES: Final[Mapping[str, Family]] = {
    "llama": Family(rope_layout=RopeLayout.NORMAL),
    "qwen2": Family(rope_layout=RopeLayout.NEOX),
    "qwen3": Family(rope_layout=RopeLayout.NEOX),
    "gemma2": Family(
        rope_layout=RopeLayout.NEOX,
        activation=Activation.GELU_TANH,
        scale_embeddings=True,
        window_pattern=2,
        wide_scale_layers=_GEMMA2_27B_LAYERS,
    ),
    "gemma3": Family(
        rope_layout=RopeLayout.NEOX,
        activation=Activation.GELU_TANH,
        scale_embeddings=True,
        window_pattern=6,
        local_rope_base=DEFAULT_BASE,
        wide_scale_layers=_GEMMA3_27B_LAYERS,
    ),
    "phi3": Family(rope_layout=RopeLayout.NEOX),
    "gpt2": Family(
        rope_layout=RopeLayout.NONE,
        norm=NormKind.LAYER,
        activation=Activation.GELU_TANH,
        gated=False,
    ),
    "bert": Family(
        rope_layout=RopeLayout.NONE,
        norm=NormKind.LAYER,
        activation=Activation.GELU_ERF,
        gated=False,
        encoder=True,
    ),
    "nomic-bert": Family(rope_layout=RopeLayout.NEOX, norm=NormKind.LAYER, encoder=True),
}


def transformer_spec(
    metadata: Mapping[str, MetadataValue],
    source: WeightSource,
    context_length: int | None = None,
) -> TransformerSpec:
    """Read what the model is from its file.

    Args:
        metadata: of the file.
        source: its tensors.
        context_length: positions that will be used; None for all the model was trained for.

    Raises:
        UnsupportedModelError: the architecture, or a feature of it, does not run here.
        GgufFormatError: a key is missing, has the wrong type, or contradicts another.
    """
    architecture = require_str(metadata, "general.architecture")
    family = ARCHITECTURES.get(architecture)
    if family is None:
        raise UnsupportedModelError(
            ReasonCode.MODEL_ARCHITECTURE_UNSUPPORTED,
            f"the architecture {architecture!r} is not supported;"
            f" supported: {', '.join(ARCHITECTURES)}",
            architecture=architecture,
            supported=tuple(ARCHITECTURES),
        )
    hyper = Hyperparameters(metadata, architecture)
    experts = hyper.integer("expert_count", 0)
    if experts > 0:
        raise UnsupportedModelError(
            ReasonCode.MODEL_ARCHITECTURE_UNSUPPORTED,
            f"{hyper.key('expert_count')} is {experts}: a mixture of experts is not supported",
            architecture=architecture,
        )
    n_layers = hyper.size("block_count", most=_MAX_LAYERS)
    n_heads = hyper.size("attention.head_count")
    n_kv_heads = hyper.size("attention.head_count_kv", n_heads)
    width = hyper.size("embedding_length")
    head_dim = hyper.size("attention.key_length", max(1, width // n_heads), most=_MAX_HEAD_DIM)
    trained = hyper.size("context_length")
    _require_multiple(hyper, "attention.head_count", n_heads, n_kv_heads)
    wide = family.wide_scale_layers == n_layers
    embedding_shape = source.shape(_EMBEDDING) if source.has(_EMBEDDING) else (0,)
    return TransformerSpec(
        architecture=architecture,
        width=width,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        value_dim=hyper.size("attention.value_length", head_dim, most=_MAX_HEAD_DIM),
        ffn_width=hyper.size("feed_forward_length"),
        vocab_size=embedding_shape[0],
        context_length=trained,
        norm=family.norm,
        norm_eps=_norm_eps(hyper, family.norm),
        activation=family.activation,
        gated=family.gated,
        rope_layout=family.rope_layout,
        embedding_scale=math.sqrt(width) if family.scale_embeddings else 1.0,
        attention_scale=1.0 / math.sqrt(width / n_heads if wide else head_dim),
        attention_softcap=_optional(hyper, "attn_logit_softcapping"),
        logit_softcap=_optional(hyper, "final_logit_softcapping"),
        learned_positions=family.rope_layout is RopeLayout.NONE,
        causal=not family.encoder,
        norm_after=family.encoder,
        layers=_layers(hyper, family, source, n_layers, head_dim, context_length or trained),
    )


def _layers(
    hyper: Hyperparameters,
    family: Family,
    source: WeightSource,
    n_layers: int,
    head_dim: int,
    context_length: int,
) -> tuple[LayerSpec, ...]:
    rope: RopeTable | None = None
    local_rope: RopeTable | None = None
    if family.rope_layout is not RopeLayout.NONE:
        n_dims = hyper.size("rope.dimension_count", head_dim)
        if n_dims > head_dim or n_dims % 2:
            raise GgufFormatError(
                ReasonCode.GGUF_METADATA_INVALID,
                f"{hyper.key('rope.dimension_count')} is {n_dims};"
                f" it must be even and at most the head size {head_dim}",
                value=n_dims,
            )
        rope = rope_table(hyper, source, n_dims, context_length)
        local_rope = rope
        if family.local_rope_base is not None:
            base = rope_base(hyper, "rope.freq_base_swa", family.local_rope_base)
            local_rope = RopeTable(tuple(plain_speeds(base, n_dims).tolist()))
    window = hyper.integer("attention.sliding_window", 0)
    windowed = LayerSpec(window, local_rope) if window > 0 else LayerSpec(None, rope)
    is_windowed = _window_pattern(hyper, family, n_layers)
    return tuple(
        windowed if is_windowed(index) else LayerSpec(None, rope) for index in range(n_layers)
    )


def _window_pattern(hyper: Hyperparameters, family: Family, n_layers: int) -> Callable[[int], bool]:
    """Which layers see a window only; files may list them, or tell another period."""
    listed = hyper.metadata.get(hyper.key("attention.sliding_window_pattern"))
    if isinstance(listed, np.ndarray) and len(listed) == n_layers:
        flags = [bool(flag) for flag in listed]
        return flags.__getitem__
    period = listed if isinstance(listed, int) and listed > 0 else family.window_pattern
    return lambda index: period == 1 or index % period < period - 1


def _norm_eps(hyper: Hyperparameters, norm: NormKind) -> float:
    name = "layer_norm_rms_epsilon" if norm is NormKind.RMS else "layer_norm_epsilon"
    return hyper.positive(f"attention.{name}", 1e-5)


def _optional(hyper: Hyperparameters, name: str) -> float | None:
    value = hyper.number(name, 0.0)
    return value if value > 0.0 else None


def _require_multiple(hyper: Hyperparameters, name: str, whole: int, part: int) -> None:
    if whole % part:
        raise GgufFormatError(
            ReasonCode.GGUF_METADATA_INVALID,
            f"{hyper.key(name)} is {whole}; it must be a multiple of the {part} kv-heads",
            value=whole,
        )
