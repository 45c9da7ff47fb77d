"""What a step of the NumPy backend takes at most, and its largest tensor, known before a load."""

# T tokens, C width, H query heads, K kv-heads, D key size, E value size, F inner width, S positions

from __future__ import annotations

from typing import Final

from smallmind_engine.kernels.backend import ScratchRequest, WeightsMode
from smallmind_engine.kernels.numpy_backend.attention import QUERY_TILE
from smallmind_engine.kernels.numpy_backend.model_weights import ROWS_AT_ONCE
from smallmind_engine.kernels.numpy_backend.ops import SCRATCH_ROWS
from smallmind_engine.kernels.spec import TransformerSpec, WeightSource
from smallmind_engine.kernels.tensors import EMBEDDING, OUTPUT

_FLOAT_BYTES: Final = 4
_POSITIONS_AT_ONCE: Final = 1024


def scratch_bytes(spec: TransformerSpec, request: ScratchRequest, tokens: int) -> int:
    """Activations of a step of ``tokens`` tokens, scores, logits and rotations."""
    heads = (spec.n_heads + spec.n_kv_heads) * spec.head_dim + spec.n_kv_heads * spec.value_dim
    up = 2 * spec.ffn_width if spec.gated else spec.ffn_width
    inner = spec.ffn_width if spec.gated else 0
    mixed = spec.n_heads * spec.value_dim
    by_token = 2 * spec.width + heads + mixed + up + inner
    tile = min(QUERY_TILE, tokens)
    positions = max(
        request.context_length if layer.window is None
        else min(request.context_length, layer.window + tile)
        for layer in spec.layers
    )  # fmt: skip
    attention = spec.n_heads * tile * (positions + spec.value_dim)
    logits = request.sequences * spec.vocab_size if spec.causal else 0
    slab = 0
    if request.mode is WeightsMode.PER_LAYER:
        slab = min(ROWS_AT_ONCE, spec.vocab_size) * spec.width
    rows = -(-request.context_length // _POSITIONS_AT_ONCE) * _POSITIONS_AT_ONCE
    tables = {layer.rope for layer in spec.layers if layer.rope is not None}
    turns = sum(2 * rows * len(table.inverse_frequencies) for table in tables)
    return _FLOAT_BYTES * (
        tokens * by_token + SCRATCH_ROWS * spec.ffn_width + attention + logits + slab + turns
    )


def largest_tensor(
    spec: TransformerSpec, source: WeightSource, mode: WeightsMode
) -> tuple[str, int]:
    """Name and bytes of the largest matrix, as it is held: dequantised, joined with its like."""
    heads = (spec.n_heads + spec.n_kv_heads) * spec.head_dim + spec.n_kv_heads * spec.value_dim
    up = 2 * spec.ffn_width if spec.gated else spec.ffn_width
    ends = spec.vocab_size if mode is WeightsMode.RESIDENT else min(ROWS_AT_ONCE, spec.vocab_size)
    rows = {
        "blk.0.attn_qkv.weight": heads,
        "blk.0.attn_output.weight": spec.n_heads * spec.value_dim,
        "blk.0.ffn_up.weight": up,
        "blk.0.ffn_down.weight": spec.ffn_width,
        OUTPUT if source.has(OUTPUT) else EMBEDDING: ends,
    }
    name = max(rows, key=lambda each: rows[each])
    return name, rows[name] * spec.width * _FLOAT_BYTES
