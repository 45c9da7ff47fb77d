"""From the ticks that a step writes down to the time, bytes and FLOPs of each operation.

Bytes are those that have to come from memory at least once: packed weights and the part of the KV
cache that is looked at, and activations, which mostly come from caches. That a tile of tokens
reads weights again does not count. FLOPs are those of products, attention and norms; a
multiplication and an addition count two, of integers as of floats.
"""

# T tokens, C width, H query heads, K kv-heads, D key size, E value size, F inner width

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.kernels.attention_span import Span, attention_span
from smallmind_engine.kernels.backend import OperationTime
from smallmind_engine.kernels.numba_backend.matrix_plan import MatrixPlan
from smallmind_engine.kernels.numba_backend.packed_model import PackedModel, round_up
from smallmind_engine.kernels.numba_backend.pages import PageLayout
from smallmind_engine.kernels.numba_backend.records import PAGE_TOKENS, Layer, Operation, Size
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
_LEAST_SPAN_NS: Final = 20_000_000

Ticks = npt.NDArray[np.int64]


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


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Costs of all operations of a model.

    Attributes:
        layers: for each layer those of its operations, in the order of ``Operation``.
        output: of the output projection.
        search: of finding the best logit only.
    """

    layers: tuple[tuple[Cost, ...], ...]
    output: Cost
    search: Cost


def step_costs(spec: TransformerSpec, model: PackedModel, pages: PageLayout) -> StepCosts:
    """Find out the costs of a model's operations."""
    plans = {(plan.layer, plan.place): plan for plan in model.plans}
    layers = tuple(tuple(_layer_costs(spec, plans, pages, i)) for i in range(spec.n_layers))
    return StepCosts(
        layers,
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


# -- from ticks to times ------------------------------------------------------------------------


class TickRate:
    """How long a tick of the compiled clock is, by comparison with ``perf_counter_ns``.

    The longer ago the first comparison, the more exact; until it is long enough ago, the call
    itself serves.
    """

    __slots__ = ("_first",)

    def __init__(self) -> None:
        self._first: tuple[int, int] | None = None

    def seconds_per_tick(self, begin: tuple[int, int], end: tuple[int, int]) -> float:
        """Take the readings (tick, nanoseconds) at both ends of a call into account.

        Returns:
            Seconds; 0 when the clock stands still.
        """
        if self._first is None:
            self._first = end
        elif end[1] - self._first[1] >= _LEAST_SPAN_NS:
            begin = self._first
        ticks = end[0] - begin[0]
        return (end[1] - begin[1]) / 1e9 / ticks if ticks > 0 else 0.0


@dataclass(frozen=True, slots=True)
class StepWork:
    """What a call has to do.

    Attributes:
        layers: that it goes through.
        spans: of the sequences.
        n_wanted: rows of logits; 0 when it does not come to the output projection.
        searched: whether only the best logits are found.
    """

    layers: range
    spans: tuple[Span, ...]
    n_wanted: int
    searched: bool


def operation_times(
    costs: StepCosts, work: StepWork, ticks: Ticks, seconds_per_tick: float
) -> list[OperationTime]:
    """The operations of a call, in the order in which they ran.

    Args:
        costs: of the model.
        work: of the call.
        ticks: at its begin and after each operation.
        seconds_per_tick: of the clock.
    """
    n_tokens = sum(count for _, count in work.spans)
    seen = {
        window: attention_span(work.spans, window)
        for window in {cost.window for layer in work.layers for cost in costs.layers[layer]}
    }
    ran = [(cost, n_tokens) for layer in work.layers for cost in costs.layers[layer]]
    if work.n_wanted:
        ran.append((costs.search if work.searched else costs.output, work.n_wanted))
    seconds = (np.diff(ticks[: len(ran) + 1]) * seconds_per_tick).tolist()
    times = []
    for (cost, tokens), taken in zip(ran, seconds, strict=True):
        pairs, positions = seen.get(cost.window, (0, 0))
        n_bytes = cost.weight_bytes + tokens * cost.token_bytes + positions * cost.position_bytes
        flops = tokens * cost.token_flops + pairs * cost.pair_flops
        times.append(
            OperationTime(
                cost.op, cost.layer, cost.quantization, tokens, max(taken, 0.0), n_bytes, flops
            )
        )
    return times


class OperationTimer:
    """Has the calls of a step timed. Used by one thread, and only when somebody wants to know.

    Args:
        costs: of the model.
        rate: of the clock; kept from step to step.

    Attributes:
        operations: all that ran so far.
    """

    def __init__(self, costs: StepCosts, rate: TickRate) -> None:
        self._costs = costs
        self._rate = rate
        self.operations: list[OperationTime] = []

    def run(
        self, call: Callable[[], None], sizes: Ticks, times: Ticks, spans: tuple[Span, ...]
    ) -> None:
        """Make the call, and take down what it did.

        Args:
            call: runs some layers of a step.
            sizes: of the step, see ``records.Size``.
            times: where the step writes the clock's ticks.
            spans: of the step's sequences.
        """
        begin = time.perf_counter_ns()
        sizes[Size.TIMED] = 1
        try:
            call()
        finally:
            sizes[Size.TIMED] = 0
        end = time.perf_counter_ns()
        layers = range(int(sizes[Size.LAYER_BEGIN]), int(sizes[Size.LAYER_END]))
        is_last = layers.stop == sizes[Size.LAYERS]
        work = StepWork(
            layers, spans, int(sizes[Size.WANTED]) if is_last else 0, bool(sizes[Size.BEST_ONLY])
        )
        last = len(layers) * len(Operation) + (work.n_wanted > 0)
        per_tick = self._rate.seconds_per_tick((int(times[0]), begin), (int(times[last]), end))
        self.operations += operation_times(self._costs, work, times, per_tick)
