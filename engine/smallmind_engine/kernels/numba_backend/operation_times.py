"""From the ticks that a step writes down to the time, bytes and FLOPs of each operation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.kernels.attention_span import Span, attention_span
from smallmind_engine.kernels.backend import OperationTime
from smallmind_engine.kernels.numba_backend.operation_costs import StepCosts
from smallmind_engine.kernels.numba_backend.records import BestOnly, Operation, Size

_LEAST_SPAN_NS: Final = 20_000_000
"""Apart enough for two readings of both clocks to tell the rate exactly."""

_CORE_BYTES_PER_SECOND: Final = 128 * 6e9
"""More than any core can take in: two lines of a cache in each cycle, at a clock that none has."""

Ticks = npt.NDArray[np.int64]


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
    costs: StepCosts, work: StepWork, ticks: Ticks, seconds_per_tick: float, threads: int = 1
) -> list[OperationTime]:
    """The operations of a call, in the order in which they ran.

    Args:
        costs: of the model.
        work: of the call.
        ticks: at its begin and after each operation.
        seconds_per_tick: of the clock.
        threads: of the team.
    """
    n_tokens = sum(count for _, count in work.spans)
    ran = slice(work.layers.start * len(Operation), work.layers.stop * len(Operation))
    labels = costs.labels[ran]
    seen = [attention_span(work.spans, window) for window in costs.windows]
    pairs, positions = np.array(seen, np.int64)[costs.window[ran]].T
    weights, token_bytes, token_flops, position_bytes, pair_flops = costs.amounts[ran].T
    n_bytes = weights + n_tokens * token_bytes + positions * position_bytes
    flops = n_tokens * token_flops + pairs * pair_flops
    passed = np.maximum(np.diff(ticks[: len(labels) + 2]), 0) * seconds_per_tick
    least = np.append(n_bytes, 0)[: len(passed)] / (threads * _CORE_BYTES_PER_SECOND)
    seconds = without_late_readings(passed, least).tolist()
    times = [
        OperationTime(op, layer, quantization, n_tokens, taken, size, work_done)
        for (op, layer, quantization), taken, size, work_done in zip(
            labels, seconds, n_bytes.tolist(), flops.tolist(), strict=False
        )
    ]
    if work.n_wanted:
        cost, count = costs.search if work.searched else costs.output, work.n_wanted
        size, work_done = cost.weight_bytes + count * cost.token_bytes, count * cost.token_flops
        taken = seconds[len(labels)]
        times.append(OperationTime(cost.op, None, cost.quantization, count, taken, size, work_done))
    return times


def without_late_readings(
    seconds: npt.NDArray[np.float64], least: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Times of operations, none of them shorter than it can have been.

    The thread that reads the clock may lose its core just before it does. Then the operation
    before seems to have taken longer, and the next one, which the others went on with, next to
    nothing: that one gets the time back that it must have had.

    Args:
        seconds: between the readings.
        least: that each operation takes on any machine.

    Returns:
        A new array with the same sum, unless the operation before has nothing to give.
    """
    missing = np.maximum(least - seconds, 0.0)
    given = np.append(missing[1:], 0.0)
    mended: npt.NDArray[np.float64] = np.maximum(seconds + missing - given, least)
    return mended


class OperationTimer:
    """Has the calls of a step timed. Used by one thread, and only when somebody wants to know.

    Args:
        costs: of the model.
        rate: of the clock; kept from step to step.
        threads: of the team.

    Attributes:
        operations: all that ran so far.
    """

    def __init__(self, costs: StepCosts, rate: TickRate, threads: int = 1) -> None:
        self._costs = costs
        self._threads = threads
        self._rate = rate
        self.operations: list[OperationTime] = []

    def run(
        self, call: Callable[[], None], sizes: Ticks, times: Ticks, spans: tuple[Span, ...]
    ) -> None:
        """Make the call, and take down what it did.

        Args:
            call: runs some layers of a step.
            sizes: of the step, filled in.
            times: where the step writes the clock.
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
        projects = layers.stop == sizes[Size.LAYERS] and sizes[Size.OUTPUT] >= 0
        work = StepWork(
            layers,
            spans,
            int(sizes[Size.WANTED]) if projects else 0,
            sizes[Size.BEST_ONLY] == BestOnly.BY_BOUNDS,
        )
        last = len(layers) * len(Operation) + (work.n_wanted > 0)
        per_tick = self._rate.seconds_per_tick((int(times[0]), begin), (int(times[last]), end))
        self.operations += operation_times(self._costs, work, times, per_tick, self._threads)
