"""A model ready to run on compiled kernels."""

# T tokens, C width, V vocabulary

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    cut_into_steps,
    steps_by_output,
)
from smallmind_engine.kernels.numba_backend.finite_search import find_non_finite
from smallmind_engine.kernels.numba_backend.operation_costs import step_costs
from smallmind_engine.kernels.numba_backend.operation_times import OperationTimer, TickRate
from smallmind_engine.kernels.numba_backend.packed_model import PackedModel, qkv_columns, round_up
from smallmind_engine.kernels.numba_backend.pages import page_layout
from smallmind_engine.kernels.numba_backend.records import (
    FUNCTIONS,
    ITEM_BYTES,
    MAX_QUERY_ROWS,
    PAGE_TOKENS,
    BestOnly,
    Function,
    Size,
)
from smallmind_engine.kernels.numba_backend.records import Sequence as SequenceField
from smallmind_engine.kernels.numba_backend.step import Step, StepTable
from smallmind_engine.kernels.numba_backend.team import Team
from smallmind_engine.kernels.numba_backend.turns import Turns
from smallmind_engine.kernels.packing import SPLIT_Q8_0
from smallmind_engine.kernels.spec import (
    Activation,
    FloatArray,
    IntArray,
    NormKind,
    TransformerSpec,
    WeightSource,
)
from smallmind_engine.kernels.tensors import EMBEDDING, POSITIONS

_LAYER_FLOPS_AT_ONCE: Final = 6e9
"""Work of one call for many tokens; between calls a step can be stopped."""

_LEAST_CHUNK: Final = 32
_WAIT_S: Final = 0.02


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
        self._team = Team(threads, kernels[kernel_names.SERVE].call)
        self._turn = threading.Lock()
        self._run_step: Final = kernels[kernel_names.STEP]
        self._functions = np.zeros(FUNCTIONS, np.int64)
        for rows in range(1, MAX_QUERY_ROWS + 1):
            attend = kernels[kernel_names.attention_name(kind, rows)].address
            self._functions[Function.ATTEND + rows - 1] = attend
        self._functions[Function.STORE_ROW] = kernels[kernel_names.store_name(kind)].address
        output = model.plans[-1].layout
        if output is SPLIT_Q8_0:
            screens = (kernels[kernel_names.SCREEN], kernels[kernel_names.SCREEN_SEVERAL])
            self._functions[Function.SCREEN :] = [kernel.address for kernel in screens]
        self._search = BestSearch(spec, threads, has_bounds=output is SPLIT_Q8_0)
        self._functions[Function.EMBED] = kernels[kernel_names.row_name(output)].address
        self._kernels = kernels  # keeps the code alive
        self._buffers: dict[int, StepBuffers] = {}
        self._capacities = step_capacities(MOST_TOKENS)
        self._tables: dict[int, StepTable] = {}
        self._turns = Turns(spec)
        self._positions = source.floats(POSITIONS) if spec.learned_positions else None
        self._constants = constants_of(spec)
        self._sizes = self._make_sizes(model)
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

    def _make_sizes(self, model: PackedModel) -> IntArray:
        spec = self._spec
        sizes = np.zeros(len(Size), np.int64)
        keys_at, values_at, _ = qkv_columns(spec)
        for field, value in (
            (Size.LAYERS, spec.n_layers),
            (Size.WIDTH, spec.width),
            (Size.HEADS, spec.n_heads),
            (Size.KV_HEADS, spec.n_kv_heads),
            (Size.KEY, spec.head_dim),
            (Size.VALUE, spec.value_dim),
            (Size.VALUE_STORED, round_up(spec.value_dim)),
            (Size.LAYER_NORM, spec.norm is NormKind.LAYER),
            (Size.GELU, spec.activation is Activation.GELU_TANH),
            (Size.THREADS, self._team.size),
            (Size.KEYS_AT, keys_at),
            (Size.VALUES_AT, values_at),
            (Size.KEY_HEAD_BYTES, self._pages.key_head),
            (Size.VALUE_HEAD_BYTES, self._pages.value_head),
            (Size.ITEM_BYTES, ITEM_BYTES[self._pages.kind]),
            (Size.OUTPUT, len(model.plans) - 1),
            (Size.OUTPUT_NORM, model.output_norm),
            (Size.OUTPUT_NORM_BIAS, model.output_norm_bias),
            (Size.EMBED, model.plans[-1].tensor == EMBEDDING and self._positions is None),
        ):
            sizes[field] = value
        return sizes

    @property
    def weight_bytes(self) -> int:
        """Memory that the packed weights take."""
        return self._weight_bytes

    @property
    def scratch_bytes(self) -> int:
        """Memory that the activation buffers take now."""
        return sum(buffers.nbytes for buffers in tuple(self._buffers.values()))

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
        if on_operations is None:
            return self._forward(chunks, limit)
        timer = OperationTimer(self._costs, self._tick_rate, self._team.size)
        outputs = self._forward(chunks, limit, timer)
        on_operations(timer.operations)
        return outputs

    def _forward(
        self, chunks: Sequence[Chunk], limit: WorkLimit, timer: OperationTimer | None = None
    ) -> list[Output]:
        for chunk in chunks:
            chunk.cache.check_room(len(chunk.token_ids))
        pieces: list[list[FloatArray]] = [[] for _ in chunks]
        with self._own_turn(limit):
            found = self._find_best(chunks, limit, timer)
            if found is not None:
                return found
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
        with self._own_turn(NO_LIMIT):
            cache = self.new_cache(len(token_ids))
            return find_non_finite(token_ids, cache, self._source, self._run)

    def close(self) -> None:
        """Let go of the weights, once no step is under way any more."""
        with self._turn:
            self._model = None
            self._team.close()  # first: a thread may still look at a barrier, which is in a buffer
            self._buffers.clear()
            self._tables.clear()
            self._pool.drop_idle()

    @contextmanager
    def _own_turn(self, limit: WorkLimit) -> Iterator[None]:
        """The team works for one caller at a time; who waits can still be stopped."""
        while not self._turn.acquire(timeout=_WAIT_S):
            limit.check("waiting for a step of another request")
        try:
            yield
        finally:
            self._turn.release()

    def _find_best(
        self, chunks: Sequence[Chunk], limit: WorkLimit, timer: OperationTimer | None
    ) -> list[Output] | None:
        """A step that computes only the best logits; None when everything must be computed."""
        search = self._search
        way = search.way(chunks)
        if way is BestOnly.NO:
            return None
        (step,) = cut_into_steps(chunks)
        self._run([part for _, part in step], limit, way, timer)
        answers = search.answers(chunks, way)
        if answers is not None:
            for chunk in chunks:
                chunk.cache.length += len(chunk.token_ids)
        return answers

    def _run(
        self,
        parts: list[StepPart],
        limit: WorkLimit,
        best: BestOnly = BestOnly.NO,
        timer: OperationTimer | None = None,
        *,
        watch: FiniteWatch | None = None,
        hidden: bool = False,
    ) -> FloatArray:
        """The wanted rows of logits, or of the hidden states that they would be made of."""
        model, spec, sizes = self._model, self._spec, self._sizes
        if model is None:
            raise RuntimeError
        n_tokens = sum(len(part.ids) for part in parts)
        buffers = self._buffers_for(n_tokens)
        n_wanted = self._fill(parts, buffers)
        sizes[Size.TOKENS] = n_tokens
        sizes[Size.STRIDE] = buffers.stride
        sizes[Size.PRIVATE] = buffers.private
        sizes[Size.SEQUENCES] = len(parts)
        sizes[Size.WANTED] = n_wanted
        sizes[Size.QUERY_ROWS] = self._query_rows(parts)
        turns = self._turns.up_to(max(part.length + len(part.ids) for part in parts))
        sizes[Size.BEST_ONLY] = best
        # Without an output matrix a step ends behind the last norm. As an index, -1 is the same.
        sizes[Size.OUTPUT] = -1 if hidden else len(model.plans) - 1
        columns = round_up(spec.vocab_size)
        logits = np.empty((0 if hidden or best else n_wanted, columns), np.float32)
        table = self._table_of(buffers, model)
        table.put("turns", turns)
        table.put("logits", logits)
        table.put("search", self._search.buffers.arrays)
        run_step, step = self._run_step, table.address
        at_once = self._layers_at_once(n_tokens) if watch is None else 1
        for begin in range(0, spec.n_layers, at_once):
            limit.check("a step of the model")
            sizes[Size.LAYER_BEGIN] = begin
            sizes[Size.LAYER_END] = min(begin + at_once, spec.n_layers)
            buffers.counters[:] = 0
            if timer is None:
                self._team.run(run_step, step)
            else:
                spans = tuple((part.length, len(part.ids)) for part in parts)
                timer.run(
                    lambda: self._team.run(run_step, step),
                    sizes,
                    buffers.times,
                    spans,
                )
            if watch is not None:  # what the layer gives; the next one adds it to the stream
                watch.see_layer(begin, buffers.block_out[:n_tokens, : spec.width])
        if hidden:  # each private copy of the stream has all rows, the shared one too
            return buffers.normed[0, :n_wanted, : spec.width].copy()
        return logits[:, : spec.vocab_size]

    def _table_of(self, buffers: StepBuffers, model: PackedModel) -> StepTable:
        """The table of a step in ``buffers``; made once, since that takes longer than a layer."""
        table = self._tables.get(buffers.capacity)
        if table is None:
            step = Step(
                self._sizes, self._constants, model.layers, model.matrices, model.vectors,
                self._turns.up_to(0), buffers.sequences, buffers.tokens, buffers.ids,
                buffers.wanted, self._functions, buffers.stream, buffers.normed, buffers.qkv,
                buffers.attended, buffers.block_out, buffers.inner, buffers.input_planes,
                buffers.inner_planes, np.empty((0, 0), np.float32), self._search.buffers.arrays,
                buffers.jobs, buffers.attends, buffers.puts, buffers.counters, buffers.barrier,
                buffers.times,
            )  # fmt: skip
            table = self._tables[buffers.capacity] = StepTable(step)
        return table

    def _layers_at_once(self, n_tokens: int) -> int:
        if n_tokens <= PRIVATE_TOKENS:
            return self._spec.n_layers
        return max(1, int(_LAYER_FLOPS_AT_ONCE / (self._layer_flops * n_tokens)))

    def _buffers_for(self, n_tokens: int) -> StepBuffers:
        capacity = next(size for size in self._capacities if size >= n_tokens)
        buffers = self._buffers.get(capacity)
        if buffers is None:
            buffers = StepBuffers(self._spec, capacity, self._team.size)
            self._buffers[capacity] = buffers
        return buffers

    def _query_rows(self, parts: list[StepPart]) -> int:
        """Query rows in a piece of attention: few when there would be too few pieces otherwise."""
        spec = self._spec
        group = spec.n_heads // spec.n_kv_heads
        rows = [len(part.ids) * group for part in parts]
        most = min(max(rows), MAX_QUERY_ROWS)
        while most > 1:
            pieces = sum(-(-count // most) for count in rows) * spec.n_kv_heads
            if pieces >= self._team.size:
                break
            most = -(-most // 2)
        return most

    def _fill(self, parts: list[StepPart], buffers: StepBuffers) -> int:
        """Put embeddings, rotations and the tables of a step in place; answers rows of logits."""
        begin = wanted = 0
        for index, part in enumerate(parts):
            end = begin + len(part.ids)
            buffers.tokens[begin:end] = index
            row = buffers.sequences[index]
            row[SequenceField.TOKEN_BEGIN] = begin
            row[SequenceField.TOKEN_END] = end
            row[SequenceField.LENGTH] = part.length
            row[SequenceField.PAGES] = part.cache.addresses.ctypes.data
            buffers.ids[begin:end] = part.ids
            if part.wanted:
                buffers.wanted[wanted : wanted + part.wanted] = range(end - part.wanted, end)
                wanted += part.wanted
            begin = end
        if not self._sizes[Size.EMBED]:
            self._embed(parts, buffers)
        return wanted

    def _embed(self, parts: list[StepPart], buffers: StepBuffers) -> None:
        """Look embeddings up where a step cannot do it itself."""
        spec = self._spec
        count = sum(len(part.ids) for part in parts)
        rows = buffers.stream[0, :count, : spec.width]
        for index, token in enumerate(buffers.ids[:count].tolist()):
            one = slice(token, token + 1)
            rows[index] = self._source.floats(EMBEDDING, rows=one)[0]
        if spec.embedding_scale != 1.0:
            np.multiply(rows, np.float32(spec.embedding_scale), out=rows)
        if self._positions is not None:
            begin = 0
            for part in parts:
                end = begin + len(part.ids)
                rows[begin:end] += self._positions[part.length : part.length + end - begin]
                begin = end
        for copy in buffers.stream[1:]:
            copy[:count] = buffers.stream[0, :count]
