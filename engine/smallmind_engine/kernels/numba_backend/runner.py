"""A model ready to run on compiled kernels."""

# T tokens, C width, V vocabulary

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from smallmind_engine.cache import KVType, PagedKVCache, PagePool
from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.kernels.backend import (
    Chunk,
    OnOperations,
    Output,
    WeightsMode,
)
from smallmind_engine.kernels.finite_watch import FiniteWatch
from smallmind_engine.kernels.numba_backend import kernel_names
from smallmind_engine.kernels.numba_backend.best_search import BestSearch
from smallmind_engine.kernels.numba_backend.buffers import (
    PRIVATE_TOKENS,
    StepBuffers,
    step_capacities,
)
from smallmind_engine.kernels.numba_backend.compile_cache import CompiledKernel
from smallmind_engine.kernels.numba_backend.constants import constants_of
from smallmind_engine.kernels.numba_backend.cutting import (
    MOST_TOKENS,
    StepPart,
    answer_of,
    steps_by_output,
    whole_parts,
)
from smallmind_engine.kernels.numba_backend.finite_search import find_non_finite
from smallmind_engine.kernels.numba_backend.operation_costs import step_costs
from smallmind_engine.kernels.numba_backend.operation_times import OperationTimer, TickRate
from smallmind_engine.kernels.numba_backend.packed_model import PackedModel, round_up
from smallmind_engine.kernels.numba_backend.pages import page_layout
from smallmind_engine.kernels.numba_backend.records import (
    FUNCTIONS,
    MAX_QUERY_ROWS,
    PAGE_TOKENS,
    BestOnly,
    Function,
    Size,
)
from smallmind_engine.kernels.numba_backend.step import Step, StepTable
from smallmind_engine.kernels.numba_backend.step_filling import StepFiller
from smallmind_engine.kernels.numba_backend.team import Team
from smallmind_engine.kernels.numba_backend.turns import Turns
from smallmind_engine.kernels.packing import SPLIT_Q8_0
from smallmind_engine.kernels.spec import (
    FloatArray,
    IntArray,
    TransformerSpec,
    WeightSource,
)
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import InferenceError

_LAYER_FLOPS_AT_ONCE: Final = 6e9
"""Work of one call for many tokens; between calls a step can be stopped."""

_LEAST_CHUNK: Final = 32
_WAIT_S: Final = 0.02
_NO_LOGITS: Final = np.empty((0, 0), np.float32)

_Place = tuple[StepBuffers, StepTable]
"""Where a step works: its memory, and the table by which compiled code finds it."""

# Reading a member of an enum takes as long as calling a function; these are read for each token.
_ALL_LOGITS: Final = BestOnly.NO
_LAYER_BEGIN: Final = int(Size.LAYER_BEGIN)
_LAYER_END: Final = int(Size.LAYER_END)


class NumbaRunner:
    """Runs steps with a team of threads. Thread-safe: steps of several callers take turns.

    Args:
        spec: the model.
        source: has the embeddings; must stay open as long as the runner is used.
        model: its packed weights.
        kernels: compiled functions by name.
        kind: what the KV cache stores.
        threads: of the team.
    """

    backend: Final = "numba"
    weights_mode: Final = WeightsMode.RESIDENT
    batch_invariant: Final = True

    def __init__(
        self,
        spec: TransformerSpec,
        source: WeightSource,
        model: PackedModel,
        kernels: Mapping[str, CompiledKernel],
        kind: KVType,
        threads: int,
    ) -> None:
        self._spec = spec
        self._source = source
        self._model: PackedModel | None = model
        self._weight_bytes = model.nbytes
        self.kv_type: Final = kind
        self._pages = page_layout(spec, kind)
        self._pages.write_offsets(model.layers)
        self._pool = PagePool(self._pages.page_bytes)
        self._team = Team(threads, kernels[kernel_names.LEAD], kernels[kernel_names.SERVE])
        self._turn = threading.RLock()  # which knows by whom it is held
        self._owner = 0  # the thread that has its turn
        self._run_step: Final = kernels[kernel_names.STEP]
        self._functions = np.zeros(FUNCTIONS, np.int64)
        for rows in range(1, MAX_QUERY_ROWS + 1):
            attend = kernels[kernel_names.attention_name(kind, rows)].address
            self._functions[Function.ATTEND + rows - 1] = attend
        self._functions[Function.STORE_ROW] = kernels[kernel_names.store_name(kind)].address
        output = model.plans[-1].layout
        if output is SPLIT_Q8_0:
            names = (kernel_names.SCREEN, kernel_names.SCREEN_SEVERAL, kernel_names.PICKED)
            self._functions[Function.SCREEN :] = [kernels[name].address for name in names]
        self._search = BestSearch(spec, threads, has_bounds=output is SPLIT_Q8_0)
        self._functions[Function.EMBED] = kernels[kernel_names.row_name(output)].address
        self._kernels = kernels  # keeps the code alive
        self._capacities = step_capacities(MOST_TOKENS)
        self._by_capacity: dict[int, _Place] = {}
        self._places: dict[int, _Place] = {}  # the same by the exact number of tokens
        self._turns = Turns(spec)
        self._n_positions = 0
        self._n_layers: Final = spec.n_layers
        self._constants = constants_of(spec)
        self._filler = StepFiller(spec, source, model, self._pages, threads)
        self._costs = step_costs(spec, model, self._pages)
        self._tick_rate = TickRate()
        layer_flops = (
            2
            * sum(plan.rows * plan.columns for plan in model.plans if plan.layer is not None)
            / max(spec.n_layers, 1)
        )
        self._layer_flops: Final = layer_flops
        fitting = int(_LAYER_FLOPS_AT_ONCE / max(layer_flops, 1.0))
        power = 1 << max(fitting.bit_length() - 1, 0)
        self.prefill_chunk: Final = min(max(power, _LEAST_CHUNK), MOST_TOKENS)

    @property
    def weight_bytes(self) -> int:
        """Memory that the packed weights take."""
        return self._weight_bytes

    @property
    def scratch_bytes(self) -> int:
        """Memory that the activation buffers take now."""
        return sum(buffers.nbytes for buffers, _ in tuple(self._by_capacity.values()))

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory that one token takes in a cache, over all layers."""
        return self._pages.page_bytes // PAGE_TOKENS

    def new_cache(self, capacity: int) -> PagedKVCache:
        """An empty KV cache with room for ``capacity`` tokens."""
        return PagedKVCache(self._pool, capacity)

    def forward(
        self,
        chunks: Sequence[Chunk],
        limit: WorkLimit = NO_LIMIT,
        on_operations: OnOperations | None = None,
    ) -> list[Output]:
        """Run one step; see ``ModelRunner.forward``."""
        timer = None
        if on_operations is not None:
            timer = OperationTimer(self._costs, self._tick_rate, self._team.size)
        for chunk in chunks:
            chunk.cache.check_room(len(chunk.token_ids))
        turn, me = self._turn, threading.get_ident()
        self._check_outside(me)
        try:
            if not turn.acquire(blocking=False):
                self._wait_for_turn(limit)
            self._owner = me
            outputs = self._find_best(chunks, limit, timer) or self._compute(chunks, limit, timer)
        finally:
            # Ctrl-C may come right before or behind the acquiring, and behind any call in here.
            if self._owner == me:
                self._owner = 0
            try:  # noqa: SIM105 - which would be more calls
                turn.release()
            except RuntimeError:
                pass
        if timer is not None and on_operations is not None:
            on_operations(timer.operations)
        return outputs

    def _compute(
        self, chunks: Sequence[Chunk], limit: WorkLimit, timer: OperationTimer | None
    ) -> list[Output]:
        """Everything that is wanted, in as many steps as that takes."""
        pieces: list[list[FloatArray]] = [[] for _ in chunks]
        for hidden, step in steps_by_output(chunks):
            rows = self._run([part for _, part in step], limit, timer=timer, hidden=hidden)
            begin = 0
            for index, part in step:
                if part.wanted:
                    pieces[index].append(rows[begin : begin + part.wanted])
                begin += part.wanted
        for chunk in chunks:
            chunk.cache.length += len(chunk.token_ids)
        return [answer_of(chunk, found) for chunk, found in zip(chunks, pieces, strict=True)]

    def find_non_finite(self, token_ids: IntArray) -> str:
        """Where NaN or infinity first appears; see ``ModelRunner.find_non_finite``."""
        with self._turn:
            cache = self.new_cache(len(token_ids))
            return find_non_finite(token_ids, cache, self._source, self._run)

    def close(self) -> None:
        """Let go of the weights, once no step is under way any more."""
        self._check_outside(threading.get_ident())
        with self._turn:
            self._model = None
            self._team.close()  # first: a thread may still look at a barrier, which is in a buffer
            self._by_capacity.clear()
            self._places.clear()
            self._filler.forget()
            self._pool.drop_idle()

    def _check_outside(self, thread: int) -> None:
        if self._owner == thread:
            raise InferenceError(
                ReasonCode.ERROR,
                "a signal handler or a finalizer used the model in the midst of a step that its"
                " own thread computes",
                hint="only note in it what is to be done, and do that afterwards",
            )

    def _wait_for_turn(self, limit: WorkLimit) -> None:
        """The team works for one caller at a time; who waits can still be stopped."""
        while not self._turn.acquire(timeout=_WAIT_S):
            limit.check("waiting for a step of another request")

    def _find_best(
        self, chunks: Sequence[Chunk], limit: WorkLimit, timer: OperationTimer | None
    ) -> list[Output] | None:
        """A step that computes only the best logits; None when everything must be computed."""
        search = self._search
        way = search.way(chunks)
        if way is _ALL_LOGITS:
            return None
        self._run(whole_parts(chunks), limit, way, timer)
        answers = search.answers(chunks, way)
        if answers is not None:
            for chunk in chunks:
                chunk.cache.length += len(chunk.token_ids)
        return answers

    def _run(
        self,
        parts: list[StepPart],
        limit: WorkLimit,
        best: BestOnly = _ALL_LOGITS,
        timer: OperationTimer | None = None,
        *,
        watch: FiniteWatch | None = None,
        hidden: bool = False,
    ) -> FloatArray:
        """The wanted rows of logits, or of the hidden states that they would be made of."""
        model, spec = self._model, self._spec
        if model is None:
            raise RuntimeError
        n_tokens = n_positions = 0
        for part in parts:
            count = len(part.ids)
            n_tokens += count
            n_positions = max(n_positions, part.length + count)
        buffers, table = self._places.get(n_tokens) or self._make_place(n_tokens, model)
        self._filler.fill(parts, buffers, best, hidden=hidden)
        if n_positions > self._n_positions:
            self._turn_up_to(n_positions)
        logits = _NO_LOGITS
        if not (hidden or best):
            rows = sum(part.wanted for part in parts)
            logits = np.empty((rows, round_up(spec.vocab_size)), np.float32)
            table.put("logits", logits)
        run_step, step, words = self._run_step, table.address, self._filler.words
        n_layers = self._n_layers
        at_once = self._layers_at_once(n_tokens) if watch is None else 1
        for begin in range(0, n_layers, at_once):
            limit.check("a step of the model")
            words[_LAYER_BEGIN] = begin
            words[_LAYER_END] = min(begin + at_once, n_layers)
            if timer is None:
                self._team.run(run_step, step)
            else:
                self._run_timed(timer, parts, buffers, step)
            if watch is not None:  # what the layer gives; the next one adds it to the stream
                watch.see_layer(begin, buffers.block_out[:n_tokens, : spec.width])
        if best:
            return logits
        table.put("logits", _NO_LOGITS)  # so that it does not keep them
        if hidden:  # each private copy of the stream has all rows, the shared one too
            rows = sum(part.wanted for part in parts)
            return buffers.normed[0, :rows, : spec.width].copy()
        return logits[:, : spec.vocab_size]

    def _run_timed(
        self, timer: OperationTimer, parts: list[StepPart], buffers: StepBuffers, step: int
    ) -> None:
        spans = tuple((part.length, len(part.ids)) for part in parts)
        run = partial(self._team.run, self._run_step, step)
        timer.run(run, self._filler.sizes, buffers.times, spans)

    def _layers_at_once(self, n_tokens: int) -> int:
        if n_tokens <= PRIVATE_TOKENS:
            return self._n_layers
        return max(1, int(_LAYER_FLOPS_AT_ONCE / (self._layer_flops * n_tokens)))

    def _turn_up_to(self, n_positions: int) -> None:
        """Have the rotations of so many positions ready for all steps."""
        turns = self._turns.up_to(n_positions)
        for _, table in self._by_capacity.values():
            table.put("turns", turns)
        self._n_positions = max(n_positions, turns.shape[2])

    def _make_place(self, n_tokens: int, model: PackedModel) -> _Place:
        """Where a step of so many tokens works; kept, since making it takes longer than a layer."""
        capacity = next(size for size in self._capacities if size >= n_tokens)
        place = self._by_capacity.get(capacity)
        if place is None:
            buffers = StepBuffers(self._spec, capacity, self._team.size)
            step = Step(
                self._filler.sizes, self._constants, model.layers, model.matrices, model.vectors,
                self._turns.up_to(0), buffers.sequences, buffers.tokens, buffers.ids,
                buffers.wanted, self._functions, buffers.stream, buffers.normed, buffers.qkv,
                buffers.attended, buffers.block_out, buffers.inner, buffers.input_planes,
                buffers.inner_planes, _NO_LOGITS, self._search.buffers.arrays,
                buffers.jobs, buffers.attends, buffers.puts, buffers.counters, buffers.barrier,
                buffers.times, buffers.ahead,
            )  # fmt: skip
            place = self._by_capacity[capacity] = (buffers, StepTable(step))
        self._places[n_tokens] = place
        return place
