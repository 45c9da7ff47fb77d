"""What each operation of a step has to read and to compute.

Bytes are those that have to come from memory at least once: packed weights and the part of the KV
cache that is looked at, and activations, which mostly come from caches. That a tile of tokens
reads weights again does not count. FLOPs are those of products, attention and norms; a
multiplication and an addition count two, of integers as of floats.
"""

# T tokens, C width, H query heads, K kv-heads, D key size, E value size, F inner width

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from smallmind_engine.kernels.numba_backend.matrix_plan import MatrixPlan
from smallmind_engine.kernels.numba_backend.packed_model import PackedModel, Words, round_up
from smallmind_engine.kernels.numba_backend.pages import PageLayout
from smallmind_engine.kernels.numba_backend.records import PAGE_TOKENS, Layer, Operation
from smallmind_engine.kernels.spec import TransformerSpec

OUTPUT: Final = "output"
OUTPUT_SEARCH: Final = "output_search"
"""The output projection when only the place of the best logit is wanted."""

_PLACES: Final = {
    Operation.QKV: (Layer.QUERY, Layer.KEY, Layer.VALUE),
    Operation.ATTENTION_OUTPUT: (Layer.ATTENTION_OUTPUT,),
    Operation.UP: (Layer.GATE, Layer.UP),
    Operation.DOWN: (Layer.DOWN,),
}
_NAMES: Final = {operation: operation.name.lower() for operation in Operation}
_FLOAT_BYTES: Final = 4
_BLOCK: Final = 32
_BLOCK_INPUT_BYTES: Final = 48
"""Of a quantised input for 32 columns: 32 codes, a factor, a sum and two half sums."""

_NORM_FLOPS: Final = 4  # square, add, scale, weight
_PAIR_FLOPS: Final = 6
_SCALE_BYTES: Final = 2
_ROW_GROUP: Final = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """What an operation reads and computes.

    Attributes:
        op: name of the operation.
        layer: index; None for what belongs to none.
        quantization: types of what it reads.
        weight_bytes: read once, however many tokens there are.
        token_bytes: read for each token.
        token_flops: computed for each token.
        position_bytes: read for each cached position that is looked at.
        pair_flops: computed for each pair of a token and a position that it sees.
        window: of attention; None for all positions, and where there is no attention.
    """

    op: str
    layer: int | None
    quantization: str
    weight_bytes: int
    token_bytes: int
    token_flops: int
    position_bytes: int = 0
    pair_flops: int = 0
    window: int | None = None

    @property
    def amounts(self) -> tuple[int, int, int, int, int]:
        """All numbers, in the order of ``StepCosts.amounts``."""
        return (
            self.weight_bytes,
            self.token_bytes,
            self.token_flops,
            self.position_bytes,
            self.pair_flops,
        )


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Costs of all operations of a model; in columns, since a step has hundreds of them.

    Attributes:
        labels: operation, layer and quantization of each operation of each layer, in order.
        amounts: int64 (operations, 5): bytes of weights, bytes and FLOPs of a token, bytes of a
            cached position, FLOPs of a pair.
        windows: those that layers have.
        window: int64 (operations,): which of them an operation has.
        output: of the output projection.
        search: of finding the best logit only.
    """

    labels: tuple[tuple[str, int | None, str], ...]
    amounts: Words
    windows: tuple[int | None, ...]
    window: Words
    output: Cost
    search: Cost


def step_costs(spec: TransformerSpec, model: PackedModel, pages: PageLayout) -> StepCosts:
    """Find out the costs of a model's operations."""
    plans = {(plan.layer, plan.place): plan for plan in model.plans}
    costs = [c for i in range(spec.n_layers) for c in _layer_costs(spec, plans, pages, i)]
    windows = tuple(dict.fromkeys(cost.window for cost in costs))
    return StepCosts(
        tuple((cost.op, cost.layer, cost.quantization) for cost in costs),
        np.array([cost.amounts for cost in costs], np.int64),
        windows,
        np.array([windows.index(cost.window) for cost in costs], np.int64),
        _product_cost(OUTPUT, None, [model.plans[-1]]),
        _search_cost(model.plans[-1]),
    )


def _layer_costs(
    spec: TransformerSpec, plans: dict[Any, MatrixPlan], pages: PageLayout, index: int
) -> Iterator[Cost]:
    for operation in Operation:
        name = _NAMES[operation]
        if operation in _PLACES:
            found = [plans.get((index, place)) for place in _PLACES[operation]]
            yield _product_cost(name, index, [plan for plan in found if plan is not None])
        elif operation is Operation.ATTENTION:
            yield _attention_cost(spec, pages, index)
        elif operation is Operation.ROTATE:
            yield _rotation_cost(spec, index)
        else:
            row, first = (
                spec.width * _FLOAT_BYTES,
                index == 0 and operation is Operation.ATTENTION_NORM,
            )
            read = row if first else 2 * row  # the residual stream, and what is added to it
            flops = (_NORM_FLOPS if first else _NORM_FLOPS + 1) * spec.width
            yield Cost(name, index, "F32", row, read, flops)


def _product_cost(op: str, layer: int | None, plans: Sequence[MatrixPlan]) -> Cost:
    types = dict.fromkeys(plan.layout.source_type for plan in plans)
    columns = plans[0].columns
    takes_codes = any(not plan.layout.is_float for plan in plans)
    takes_floats = any(plan.layout.is_float for plan in plans)
    inputs = takes_codes * _code_bytes(columns) + takes_floats * columns * _FLOAT_BYTES
    return Cost(
        op,
        layer,
        "+".join(types),
        sum(plan.n_bytes for plan in plans),
        inputs,
        2 * sum(plan.rows * plan.columns for plan in plans),
    )


def _search_cost(plan: MatrixPlan) -> Cost:
    """Upper halves of the codes, and the factors; the few rows computed in full are left out."""
    blocks = round_up(plan.rows, _ROW_GROUP) * (plan.columns // _BLOCK)
    block_bytes = _BLOCK * plan.layout.high_bits // 8 + _SCALE_BYTES
    return Cost(
        OUTPUT_SEARCH,
        None,
        plan.layout.source_type,
        blocks * block_bytes,
        _code_bytes(plan.columns),
        2 * plan.rows * plan.columns,
    )


def _code_bytes(columns: int) -> int:
    return -(-columns // _BLOCK) * _BLOCK_INPUT_BYTES


def _attention_cost(spec: TransformerSpec, pages: PageLayout, index: int) -> Cost:
    return Cost(
        _NAMES[Operation.ATTENTION],
        index,
        pages.kind.name,
        0,
        spec.n_heads * spec.head_dim * _FLOAT_BYTES,
        0,
        position_bytes=pages.layer_bytes // PAGE_TOKENS,
        pair_flops=2 * spec.n_heads * (spec.head_dim + spec.value_dim),
        window=spec.layers[index].window,
    )


def _rotation_cost(spec: TransformerSpec, index: int) -> Cost:
    """Rotation of queries and keys, and the scale of queries."""
    rope = spec.layers[index].rope
    pairs = 0 if rope is None else len(rope.inverse_frequencies)
    rows = spec.n_heads + spec.n_kv_heads
    queries = spec.n_heads * spec.head_dim
    numbers = rows * spec.head_dim + spec.n_kv_heads * spec.value_dim
    read = (numbers + 2 * pairs) * _FLOAT_BYTES
    return Cost(
        _NAMES[Operation.ROTATE], index, "F32", 0, read, rows * pairs * _PAIR_FLOPS + queries
    )
