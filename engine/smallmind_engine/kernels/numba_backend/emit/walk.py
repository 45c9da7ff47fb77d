"""One step of the transformer, as every thread of a team runs it: all layers in one call.

Work is handed out in pieces; between operations that need each other's results there is a
barrier. With few tokens each thread keeps its own copy of the residual stream and repeats the
cheap work on rows instead of waiting for the others.
"""

# T tokens, C width, H query heads, E value size, F inner width

from __future__ import annotations

from typing import Any, Final

import numpy as np

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of, call_function
from smallmind_engine.kernels.numba_backend.emit.attention_work import attend
from smallmind_engine.kernels.numba_backend.emit.best_outputs import keep_best
from smallmind_engine.kernels.numba_backend.emit.compiled import inner, unchecked
from smallmind_engine.kernels.numba_backend.emit.kv_ahead import (
    ask_for_layer,
    go_on_asking,
    list_pages,
)
from smallmind_engine.kernels.numba_backend.emit.kv_rows import rotate_and_store
from smallmind_engine.kernels.numba_backend.emit.products import (
    gated_product,
    product,
)
from smallmind_engine.kernels.numba_backend.emit.row_work import add_residual, norm, scale_row
from smallmind_engine.kernels.numba_backend.emit.screening import find_best
from smallmind_engine.kernels.numba_backend.emit.step_arrays import step_at
from smallmind_engine.kernels.numba_backend.emit.step_parts import (
    FLOAT_BYTES,
    clock,
    mark,
    meet,
    meet_if_shared,
    own_copy,
    own_rows,
    quantize_row,
    set_inputs,
    takes_codes,
    vector,
    writable,
)
from smallmind_engine.kernels.numba_backend.records import (
    COUNTERS_PER_LAYER,
    BestOnly,
    Constant,
    Function,
    Job,
    Layer,
    Operation,
    Pick,
    Size,
)

_NO_CAP: Final = np.float32(0.0)
_NONE: Final = np.int64(-1)


@inner
def _run_step(thread: int, s: Any) -> None:
    """A thread's part of a step. All threads of the team call it with the same ``Step``."""
    sizes = s.sizes
    # Read now: behind the last barrier the caller may already prepare the next call.
    begin, end, n_layers = sizes[Size.LAYER_BEGIN], sizes[Size.LAYER_END], sizes[Size.LAYERS]
    n_wanted = sizes[Size.WANTED]
    if thread == 0 and sizes[Size.TIMED]:
        s.times[0] = clock()
    if begin == 0 and sizes[Size.EMBED]:
        _embed(s, thread)
    list_pages(s, thread)
    ask_for_layer(s, thread, begin)
    for index in range(begin, end):
        _attention(s, thread, index)
        _feed_forward(s, thread, index)
    if end == n_layers and n_wanted > 0:
        _logits(s, thread)
    if thread == 0:  # all others are behind the last barrier, too, and take no piece any more
        for place in range(len(s.counters)):
            s.counters[place] = 0


@inner
def _run_step_at(thread: int, table: int) -> None:
    _run_step(thread, step_at(table))


_call: Any = unchecked(_run_step_at)


def run_step_at(thread: int, table: int) -> None:
    """A thread's part of the step that ``StepTable`` describes at an address."""
    _call(thread, table)


@inner
def _embed(s: Any, thread: int) -> None:
    """Look this thread's rows of embeddings up in the output matrix."""
    x = s.stream[own_copy(s, thread)]
    low, high = own_rows(s, thread, s.sizes[Size.TOKENS])
    pick = s.puts[thread]
    for token in range(low, high):
        pick[Pick.ROW] = s.ids[token]
        pick[Pick.OUT] = address_of(x[token])
        matrix = s.matrices[s.sizes[Size.OUTPUT]]
        call_function(s.functions[Function.EMBED], address_of(matrix), address_of(pick))
        scale_row(x[token, : s.sizes[Size.WIDTH]], s.constants[Constant.EMBEDDING_SCALE])


@inner
def _add_block(s: Any, thread: int, token: int, row: int, bias: int, post_norm: int) -> None:
    """Add the last block's output to a token's residual stream; ``row`` is free to be used."""
    copy, width = own_copy(s, thread), s.sizes[Size.WIDTH]
    scratch = s.normed[copy, row, :width]
    add_residual(
        s.stream[copy, token, :width],
        writable(s, s.block_out[token, :width], scratch),
        vector(s.vectors, bias, width),
        vector(s.vectors, post_norm, width),
        s.constants[Constant.NORM_EPS],
        s.sizes[Size.LAYER_NORM],
        s.vectors[:0],
    )


@inner
def _norm_row(s: Any, thread: int, token: int, row: int, weight: int, bias: int) -> None:
    """Norm a token's residual stream into a row of inputs."""
    copy, width = own_copy(s, thread), s.sizes[Size.WIDTH]
    norm(
        s.stream[copy, token],
        vector(s.vectors, weight, width),
        vector(s.vectors, bias, width),
        s.constants[Constant.NORM_EPS],
        s.sizes[Size.LAYER_NORM],
        s.normed[copy, row],
    )


@inner
def _attention(s: Any, thread: int, index: int) -> None:
    """The attention block, up to its output projection."""
    sizes, layer, copy = s.sizes, s.layers[index], own_copy(s, thread)
    job, threads, n_tokens = s.jobs[thread, 0], sizes[Size.THREADS], sizes[Size.TOKENS]
    counter = index * COUNTERS_PER_LAYER
    set_inputs(job, s.input_planes[copy], s.normed[copy], sizes[Size.STRIDE])
    queries, keys, values = layer[Layer.QUERY], layer[Layer.KEY], layer[Layer.VALUE]
    quantized = (
        takes_codes(s.matrices, queries)
        or takes_codes(s.matrices, keys)
        or takes_codes(s.matrices, values)
    )
    low, high = own_rows(s, thread, n_tokens)
    for token in range(low, high):
        if index > 0:
            before = s.layers[index - 1]
            _add_block(
                s, thread, token, token, before[Layer.DOWN_BIAS], before[Layer.POST_FFN_NORM]
            )
        weight, bias = layer[Layer.ATTENTION_NORM], layer[Layer.ATTENTION_NORM_BIAS]
        _norm_row(s, thread, token, token, weight, bias)
        if quantized:
            quantize_row(s.normed[copy, token], sizes[Size.WIDTH], token, job)
    meet_if_shared(s)
    mark(s, thread, index, Operation.ATTENTION_NORM)
    job[Job.OUT_STRIDE] = s.qkv.shape[1] * FLOAT_BYTES
    start = address_of(s.qkv)
    outs = (
        start,
        start + sizes[Size.KEYS_AT] * FLOAT_BYTES,
        start + sizes[Size.VALUES_AT] * FLOAT_BYTES,
    )
    product(
        s.matrices, (queries, keys, values), outs, job, n_tokens, s.counters, counter, threads,
        thread, _NO_CAP,
    )  # fmt: skip
    meet(s)
    mark(s, thread, index, Operation.QKV)
    rotate_and_store(s, thread, layer)
    meet(s)
    mark(s, thread, index, Operation.ROTATE)
    attend(s, thread, layer, counter + 1)
    meet(s)
    mark(s, thread, index, Operation.ATTENTION)
    ask_for_layer(s, thread, index + 1)
    set_inputs(job, s.input_planes[copy], s.attended, sizes[Size.STRIDE])
    if takes_codes(s.matrices, layer[Layer.ATTENTION_OUTPUT]):
        columns = sizes[Size.HEADS] * sizes[Size.VALUE]
        for token in range(low, high):
            quantize_row(s.attended[token], columns, token, job)
        meet_if_shared(s)
    _project(s, thread, job, layer[Layer.ATTENTION_OUTPUT], counter + 2)
    mark(s, thread, index, Operation.ATTENTION_OUTPUT)


@inner
def _project(s: Any, thread: int, job: Any, matrix: int, counter: int) -> None:
    """Project a block's rows back to the width."""
    job[Job.OUT_STRIDE] = s.block_out.shape[1] * FLOAT_BYTES
    start = address_of(s.block_out)
    product(
        s.matrices, (matrix, _NONE, _NONE), (start, start, start), job, s.sizes[Size.TOKENS],
        s.counters, counter, s.sizes[Size.THREADS], thread, _NO_CAP,
    )  # fmt: skip
    meet(s)


@inner
def _feed_forward(s: Any, thread: int, index: int) -> None:
    """The feed-forward block, up to its output projection."""
    sizes, layer, copy = s.sizes, s.layers[index], own_copy(s, thread)
    job, down_job = s.jobs[thread, 0], s.jobs[thread, 1]
    gate, up, activated = s.inner[0], s.inner[1], s.inner[2]
    counter = index * COUNTERS_PER_LAYER + 3
    set_inputs(job, s.input_planes[copy], s.normed[copy], sizes[Size.STRIDE])
    quantized = takes_codes(s.matrices, layer[Layer.UP])
    low, high = own_rows(s, thread, sizes[Size.TOKENS])
    for token in range(low, high):
        bias, post_norm = layer[Layer.ATTENTION_OUTPUT_BIAS], layer[Layer.POST_ATTENTION_NORM]
        _add_block(s, thread, token, token, bias, post_norm)
        _norm_row(s, thread, token, token, layer[Layer.FFN_NORM], layer[Layer.FFN_NORM_BIAS])
        if quantized:
            quantize_row(s.normed[copy, token], sizes[Size.WIDTH], token, job)
    meet_if_shared(s)
    mark(s, thread, index, Operation.FFN_NORM)
    set_inputs(down_job, s.inner_planes, activated, sizes[Size.STRIDE])
    if not takes_codes(s.matrices, layer[Layer.DOWN]):
        down_job[Job.CODES] = 0
    job[Job.OUT_STRIDE] = gate.shape[1] * FLOAT_BYTES
    biases = (
        vector(s.vectors, layer[Layer.GATE_BIAS], gate.shape[1]),
        vector(s.vectors, layer[Layer.UP_BIAS], gate.shape[1]),
    )
    gated_product(
        s.matrices, (layer[Layer.GATE], layer[Layer.UP]), (gate, up, activated), biases, job,
        down_job, sizes[Size.TOKENS], s.counters, counter, sizes[Size.THREADS], thread,
        sizes[Size.GELU],
    )  # fmt: skip
    meet(s)
    mark(s, thread, index, Operation.UP)
    go_on_asking(job, down_job)
    _project(s, thread, down_job, layer[Layer.DOWN], counter + 1)
    go_on_asking(down_job, job)
    mark(s, thread, index, Operation.DOWN)


@inner
def _logits(s: Any, thread: int) -> None:
    """The last norm and the output projection, for the tokens that logits are wanted of."""
    sizes, copy = s.sizes, own_copy(s, thread)
    job, n_wanted, output = s.jobs[thread, 0], sizes[Size.WANTED], sizes[Size.OUTPUT]
    last = s.layers[sizes[Size.LAYERS] - 1]
    set_inputs(job, s.input_planes[copy], s.normed[copy], sizes[Size.STRIDE])
    low, high = own_rows(s, thread, n_wanted)
    for row in range(low, high):
        token = s.wanted[row]
        _add_block(s, thread, token, row, last[Layer.DOWN_BIAS], last[Layer.POST_FFN_NORM])
        _norm_row(s, thread, token, row, sizes[Size.OUTPUT_NORM], sizes[Size.OUTPUT_NORM_BIAS])
        if takes_codes(s.matrices, output):
            quantize_row(s.normed[copy, row], sizes[Size.WIDTH], row, job)
    meet_if_shared(s)
    job[Job.OUT_STRIDE] = s.logits.shape[1] * FLOAT_BYTES
    counter = sizes[Size.LAYERS] * COUNTERS_PER_LAYER
    after, timed = sizes[Size.LAYER_END], sizes[Size.TIMED]
    if sizes[Size.BEST_ONLY] == BestOnly.BY_BOUNDS:
        find_best(s, thread, job, counter + 1)
    elif sizes[Size.BEST_ONLY] == BestOnly.OF_ALL:
        keep_best(s, thread, job, counter)
    else:
        start = address_of(s.logits)
        product(
            s.matrices, (output, _NONE, _NONE), (start, start, start), job, n_wanted, s.counters,
            counter, sizes[Size.THREADS], thread, s.constants[Constant.LOGIT_CAP],
        )  # fmt: skip
        meet(s)
    if timed:
        mark(s, thread, after, 0)
