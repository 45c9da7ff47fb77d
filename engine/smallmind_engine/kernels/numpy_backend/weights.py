"""Weights of a layer as float32 matrices, with those that multiply the same input joined."""

# C width, H query heads, K kv-heads, D key size, E value size, F inner width

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.kernels.rotation import halves_order
from smallmind_engine.kernels.spec import (
    FloatArray,
    RopeLayout,
    TransformerSpec,
    WeightSource,
)
from smallmind_engine.kernels.tensors import require


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. Optional parts are None when the file does not have them.

    Attributes:
        attention_norm: before the attention block, or behind it, as the spec says;
            ``ffn_norm`` likewise.
        qkv: shape (H*D + K*D + K*E, C).
        attention_output: shape (C, H*E).
        up: shape (2F, C), gate first, or (F, C) for blocks without a gate.
        down: shape (C, F).
    """

    attention_norm: FloatArray
    attention_norm_bias: FloatArray | None
    qkv: FloatArray
    qkv_bias: FloatArray | None
    query_norm: FloatArray | None
    key_norm: FloatArray | None
    attention_output: FloatArray
    attention_output_bias: FloatArray | None
    post_attention_norm: FloatArray | None
    ffn_norm: FloatArray
    ffn_norm_bias: FloatArray | None
    up: FloatArray
    up_bias: FloatArray | None
    down: FloatArray
    down_bias: FloatArray | None
    post_ffn_norm: FloatArray | None

    @property
    def nbytes(self) -> int:
        """Memory of all parts."""
        parts = (getattr(self, field.name) for field in fields(self))
        return sum(part.nbytes for part in parts if part is not None)


def load_layer(
    spec: TransformerSpec,
    source: WeightSource,
    index: int,
    into: LayerWeights | None = None,
    *,
    limit: WorkLimit = NO_LIMIT,
    read_once: bool = False,
) -> LayerWeights:
    """Dequantise one layer.

    Args:
        spec: the model.
        source: has the tensors.
        index: of the layer.
        into: a layer whose matrices are overwritten, to save memory; None for new ones.
        limit: stops the work.
        read_once: whether the tensors' bytes in the file will not be needed again.

    Raises:
        OperationCancelledError: ``limit`` was exceeded.
        ModelFileError: a tensor is missing or has the wrong shape.
    """
    at = f"blk.{index}."
    c, f = spec.width, spec.ffn_width
    queries, keys = spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    values, mixed = spec.n_kv_heads * spec.value_dim, spec.n_heads * spec.value_dim

    def vector(name: str, size: int) -> FloatArray | None:
        if not source.has(at + name):
            return None
        require(source, at + name, (size,))
        return source.floats(at + name)

    def needed_vector(name: str, size: int) -> FloatArray:
        require(source, at + name, (size,))
        return source.floats(at + name)

    def matrix(
        parts: tuple[tuple[str, int], ...], columns: int, out: FloatArray | None
    ) -> FloatArray:
        joined = (
            np.empty((sum(rows for _, rows in parts), columns), np.float32) if out is None else out
        )
        begin = 0
        for name, rows in parts:
            require(source, at + name, (rows, columns))
            source.floats(at + name, out=joined[begin : begin + rows], limit=limit)
            begin += rows
            if read_once:  # else what was read would be in memory twice
                source.release(at + name)
        return joined

    fused_qkv = source.has(at + "attn_qkv.weight")
    qkv_parts = (
        (("attn_qkv", queries + keys + values),)
        if fused_qkv
        else (("attn_q", queries), ("attn_k", keys), ("attn_v", values))
    )
    up_parts = (
        (("ffn_gate", f), ("ffn_up", f))
        if source.has(at + "ffn_gate.weight")
        else (("ffn_up", 2 * f if spec.gated else f),)
    )
    attention_norm, ffn_norm = (
        ("attn_output_norm", "layer_output_norm") if spec.norm_after else ("attn_norm", "ffn_norm")
    )
    layer = LayerWeights(
        attention_norm=needed_vector(f"{attention_norm}.weight", c),
        attention_norm_bias=vector(f"{attention_norm}.bias", c),
        qkv=matrix(_weights(qkv_parts), c, into.qkv if into else None),
        qkv_bias=_joined_bias(source, at, qkv_parts),
        query_norm=vector("attn_q_norm.weight", spec.head_dim),
        key_norm=vector("attn_k_norm.weight", spec.head_dim),
        attention_output=matrix(
            (("attn_output.weight", c),), mixed, into.attention_output if into else None
        ),
        attention_output_bias=vector("attn_output.bias", c),
        post_attention_norm=vector("post_attention_norm.weight", c),
        ffn_norm=needed_vector(f"{ffn_norm}.weight", c),
        ffn_norm_bias=vector(f"{ffn_norm}.bias", c),
        up=matrix(_weights(up_parts), c, into.up if into else None),
        up_bias=_joined_bias(source, at, up_parts),
        down=matrix((("ffn_down.weight", c),), f, into.down if into else None),
        down_bias=vector("ffn_down.bias", c),
        post_ffn_norm=vector("post_ffw_norm.weight", c),
    )
    _to_halves(spec, index, layer)
    return layer


def _weights(parts: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    return tuple((f"{name}.weight", rows) for name, rows in parts)


def _joined_bias(
    source: WeightSource, at: str, parts: tuple[tuple[str, int], ...]
) -> FloatArray | None:
    """Biases of joined matrices, zeros where one of them has none."""
    names = [(f"{at}{name}.bias", rows) for name, rows in parts]
    if not any(source.has(name) for name, _ in names):
        return None
    pieces = []
    for name, rows in names:
        if source.has(name):
            require(source, name, (rows,))
            pieces.append(source.floats(name))
        else:
            pieces.append(np.zeros(rows, np.float32))
    return np.concatenate(pieces)


def _to_halves(spec: TransformerSpec, index: int, layer: LayerWeights) -> None:
    """Reorder query and key heads of the NORMAL layout, in place, so that halves rotate."""
    rope = spec.layers[index].rope
    if rope is None or spec.rope_layout is not RopeLayout.NORMAL:
        return
    order = halves_order(spec.head_dim, len(rope.inverse_frequencies))
    rows = (spec.n_heads + spec.n_kv_heads) * spec.head_dim
    heads = layer.qkv[:rows].reshape(-1, spec.head_dim, spec.width)
    for head in heads:
        head[...] = head[order]
    if layer.qkv_bias is not None:
        bias = layer.qkv_bias[:rows].reshape(-1, spec.head_dim)
        bias[...] = bias[:, order]
    for norm in (layer.query_norm, layer.key_norm):
        if norm is not None:
            norm[...] = norm[order]
