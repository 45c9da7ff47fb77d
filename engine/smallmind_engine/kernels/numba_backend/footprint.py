"""What a step of the Numba backend takes at most, and its largest tensor, known before a load."""

# T tokens, C width, H query heads, E value size, F inner width, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smallmind_engine.kernels.backend import ScratchRequest
from smallmind_engine.kernels.numba_backend.buffers import (
    PRIVATE_TOKENS,
    ahead_entries,
    step_capacities,
)
from smallmind_engine.kernels.numba_backend.cutting import MOST_TOKENS
from smallmind_engine.kernels.numba_backend.matrix_plan import MatrixPlan
from smallmind_engine.kernels.numba_backend.packed_model import qkv_columns, round_up
from smallmind_engine.kernels.numba_backend.records import (
    BEST_GROUPS,
    MAX_QUERY_ROWS,
    MOST_BEST,
    OUTLIERS,
    PAGE_TOKENS,
    SPARE_TOKENS,
    TERMS,
    TOKEN_TILE,
)
from smallmind_engine.kernels.numba_backend.turns import turns_bytes
from smallmind_engine.kernels.spec import TransformerSpec

KERNELS_BYTES: Final = 4 << 20
"""The machine code of a model's kernels, and LLVM where it puts them into memory: measured."""

_FLOAT_BYTES: Final = 4
_BLOCK: Final = 32
_BLOCK_INPUT_BYTES: Final = 48  # 32 codes, a factor, a sum and two half sums
_BY_TOKEN_BYTES: Final = 64  # ids and the like
_COUNTERS_BY_LAYER_BYTES: Final = 1024
_ENTRY_BYTES: Final = 8


def scratch_bytes(spec: TransformerSpec, request: ScratchRequest) -> int:
    """The buffers of steps of all sizes, logits, searches and rotations."""
    buffers = sum(
        _step_bytes(spec, capacity, request.threads) for capacity in step_capacities(MOST_TOKENS)
    )
    logits = request.sequences * round_up(spec.vocab_size) * _FLOAT_BYTES
    bounds = MOST_BEST * -(-spec.vocab_size // 16)
    blocks = -(-spec.width // _BLOCK)
    terms = request.threads * (MOST_BEST + SPARE_TOKENS) * round_up(blocks * TERMS + OUTLIERS)
    energies = request.threads * blocks * _BLOCK
    best = request.threads * (MOST_BEST + SPARE_TOKENS) * 16 * (BEST_GROUPS + 2)
    search = (bounds + terms + energies + best) * _FLOAT_BYTES
    return buffers + logits + search + turns_bytes(spec, request.context_length)


def _step_bytes(spec: TransformerSpec, capacity: int, threads: int) -> int:
    """Memory of ``StepBuffers`` of a capacity, but for some hundred bytes."""
    copies = threads if capacity <= PRIVATE_TOKENS else 1
    width, inner = round_up(spec.width), round_up(spec.ffn_width)
    mixed = spec.n_heads * spec.value_dim
    floats = (2 * copies + 1) * width + qkv_columns(spec)[2] + mixed + 3 * inner
    stored = round_up(spec.value_dim)
    by_thread = (TOKEN_TILE + SPARE_TOKENS) * 16 + MAX_QUERY_ROWS * (PAGE_TOKENS + stored)
    blocks = copies * -(-max(spec.width, mixed) // _BLOCK) + -(-spec.ffn_width // _BLOCK)
    stride = round_up(capacity, SPARE_TOKENS)
    return (
        _FLOAT_BYTES * (capacity * floats + threads * by_thread)
        + blocks * stride * _BLOCK_INPUT_BYTES
        + capacity * _BY_TOKEN_BYTES
        + spec.n_layers * _COUNTERS_BY_LAYER_BYTES
        + threads * ahead_entries(spec, capacity, threads) * _ENTRY_BYTES
    )


def largest_tensor(plans: Sequence[MatrixPlan]) -> tuple[str, int]:
    """Name and bytes of the largest packed matrix."""
    largest = max(plans, key=lambda plan: plan.n_bytes)
    return largest.tensor, largest.n_bytes
