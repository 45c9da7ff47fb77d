"""One step of the transformer, as every thread of a team runs it: all layers in one call.

Work is handed out in pieces; between operations that need each other's results there is a
barrier. With few tokens each thread keeps its own copy of the residual stream and repeats the
cheap work on rows instead of waiting for the others.
"""

# T tokens, C width, H query heads, K kv-heads, D key size, E value size, F inner width

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types

from smallmind_engine.kernels.numba_backend.addresses import address_of
from smallmind_engine.kernels.numba_backend.isa import IsaTier, choose_tier
from smallmind_engine.kernels.numba_backend.products import (
    call_function,
    gated_product,
    product,
)
from smallmind_engine.kernels.numba_backend.records import (
    COUNTER_WORDS,
    COUNTERS_PER_LAYER,
    PAGE_TOKENS,
    Attend,
    Constant,
    Function,
    Job,
    Layer,
    Matrix,
    Pick,
    Put,
    QueryRow,
    Sequence,
    Size,
)
from smallmind_engine.kernels.numba_backend.row_work import add_residual, norm, rotate, scale_row
from smallmind_engine.kernels.numba_backend.rows_ir import BLOCK, quantize
from smallmind_engine.kernels.numba_backend.screening import find_best
from smallmind_engine.kernels.numba_backend.sync_ir import atomic_add, wait_for_all
from smallmind_engine.kernels.numba_backend.vector_ir import I64, LANES, Code, Value, ir_function

_FLOAT: Final = 4
_NO_CAP: Final = np.float32(0.0)
_ROW_FIELDS: Final = len(QueryRow)


def _clock(code: Code) -> Value:
    """Counts up steadily; the caller finds out how fast."""
    steady = choose_tier() is IsaTier.NEON_DOTPROD
    name = "llvm.readsteadycounter" if steady else "llvm.readcyclecounter"
    return code.external(ir.FunctionType(I64, []), name)


clock: Any = ir_function(_clock, 0, types.int64)


@njit(nogil=True)
def _vector(vectors: Any, begin: int, size: int) -> Any:
    """A vector of the layer; empty where there is none."""
    return vectors[:0] if begin < 0 else vectors[begin : begin + size]


@njit(nogil=True)
def _own_rows(sizes: Any, thread: int, count: int) -> tuple[int, int]:
    """The rows that a thread works on: all of its private copy, or its share."""
    if sizes[Size.PRIVATE]:
        return 0, count
    threads = sizes[Size.THREADS]
    return count * thread // threads, count * (thread + 1) // threads


@njit(nogil=True)
def _quantize_row(row: Any, columns: int, token: int, job: Any) -> None:
    quantize(
        address_of(row), 0, columns // BLOCK, job[Job.STRIDE], token,
        job[Job.CODES], job[Job.FACTORS], job[Job.SUMS], job[Job.HALF_SUMS],
    )  # fmt: skip


@njit(nogil=True)
def _wants_codes(matrices: Any, index: int) -> bool:
    return index >= 0 and matrices[index, Matrix.FLOAT_INPUT] == 0


@njit(nogil=True)
def _set_inputs(job: Any, planes: Any, floats: Any, stride: int) -> None:
    """Point a job at inputs: quantised ones, and the same as floats."""
    job[Job.STRIDE] = stride
    job[Job.CODES] = planes[0]
    job[Job.FACTORS] = planes[1]
    job[Job.SUMS] = planes[2]
    job[Job.HALF_SUMS] = planes[3]
    job[Job.FLOATS] = address_of(floats)
    job[Job.FLOAT_STRIDE] = floats.shape[1] * _FLOAT


@njit(nogil=True, error_model="numpy")
def _rotate_and_store(
    thread: int, sizes: Any, constants: Any, layer: Any, vectors: Any, turns: Any,
    sequences: Any, tokens: Any, qkv: Any, functions: Any, put: Any,
) -> None:  # fmt: skip
    """Norm, rotate and scale this thread's share of heads; put keys and values into the cache."""
    heads, kv_heads = sizes[Size.HEADS], sizes[Size.KV_HEADS]
    key, value, threads = sizes[Size.KEY], sizes[Size.VALUE], sizes[Size.THREADS]
    per_token = heads + 2 * kv_heads
    count = sizes[Size.TOKENS] * per_token
    bias = _vector(vectors, layer[Layer.QKV_BIAS], qkv.shape[1])
    query_norm = _vector(vectors, layer[Layer.QUERY_NORM], key)
    key_norm = _vector(vectors, layer[Layer.KEY_NORM], key)
    turn = layer[Layer.ROTATION]
    for item in range(count * thread // threads, count * (thread + 1) // threads):
        token, head = item // per_token, item % per_token
        is_value = head >= heads + kv_heads
        if is_value:
            size, column = value, sizes[Size.VALUES_AT] + (head - heads - kv_heads) * value
        elif head >= heads:
            size, column = key, sizes[Size.KEYS_AT] + (head - heads) * key
        else:
            size, column = key, head * key
        row = qkv[token, column : column + size]
        if len(bias):
            for i in range(size):
                row[i] += bias[column + i]
        if not is_value:
            weight = query_norm if head < heads else key_norm
            if len(weight):
                norm(row, weight, vectors[:0], constants[Constant.NORM_EPS], 0, row)
            if turn >= 0:
                pairs = layer[Layer.PAIRS]
                position = _position(sequences, tokens, token)
                rotate(row, turns[turn, 0, position, :pairs], turns[turn, 1, position, :pairs])
        if head < heads:
            scale_row(row, constants[Constant.ATTENTION_SCALE])
        else:
            kv = head - heads - (kv_heads if is_value else 0)
            position = _position(sequences, tokens, token)
            pages = sequences[tokens[token], Sequence.PAGES]
            _store(sizes, layer, pages, position, kv, is_value, row, functions, put)


@njit(nogil=True)
def _position(sequences: Any, tokens: Any, token: int) -> int:
    sequence = sequences[tokens[token]]
    return sequence[Sequence.LENGTH] + token - sequence[Sequence.TOKEN_BEGIN]


@njit(nogil=True)
def _store(
    sizes: Any, layer: Any, pages: int, position: int, kv: int, is_value: bool, row: Any,
    functions: Any, put: Any,
) -> None:  # fmt: skip
    page = _read_word(pages + position // PAGE_TOKENS * 8)
    within = position % PAGE_TOKENS
    item = sizes[Size.ITEM_BYTES]
    put[Put.SOURCE] = address_of(row)
    put[Put.COUNT] = len(row)
    if is_value:
        base = page + layer[Layer.VALUES] + kv * sizes[Size.VALUE_HEAD_BYTES]
        put[Put.TARGET] = base + within * sizes[Size.VALUE_STORED] * item
        put[Put.STEP] = item
        factors = layer[Layer.VALUE_FACTORS]
    else:
        base = page + layer[Layer.KEYS] + kv * sizes[Size.KEY_HEAD_BYTES]
        sub, lane = within // LANES, within % LANES
        put[Put.TARGET] = base + (sub * sizes[Size.KEY] * LANES + lane) * item
        put[Put.STEP] = LANES * item
        factors = layer[Layer.KEY_FACTORS]
    put[Put.FACTOR] = page + factors + (kv * PAGE_TOKENS + within) * _FLOAT
    call_function(functions[Function.STORE_ROW], address_of(put), 0)


def _read(code: Code, address: Value) -> Value:
    return code.load(I64, address, 8)


_read_word: Any = ir_function(_read, 1, types.int64)


@njit(nogil=True)
def _attend(
    sizes: Any, constants_bits: int, layer: Any, sequences: Any, qkv: Any, attended: Any,
    functions: Any, job: Any, counters: Any, counter: int,
) -> None:  # fmt: skip
    """Take pieces of a few query rows each, until none is left."""
    at_once = sizes[Size.QUERY_ROWS]
    kv_heads = sizes[Size.KV_HEADS]
    group = sizes[Size.HEADS] // kv_heads
    key, value = sizes[Size.KEY], sizes[Size.VALUE]
    function = functions[Function.ATTEND + at_once - 1]
    job[Attend.KEY_SIZE] = key
    job[Attend.VALUE_SIZE] = sizes[Size.VALUE_STORED]
    job[Attend.CAP] = constants_bits
    window = layer[Layer.WINDOW]
    taken = address_of(counters[counter * COUNTER_WORDS :])
    piece = atomic_add(taken, 1)
    first_piece = 0
    for sequence in range(sizes[Size.SEQUENCES]):
        begin = sequences[sequence, Sequence.TOKEN_BEGIN]
        n_rows = (sequences[sequence, Sequence.TOKEN_END] - begin) * group
        per_head = (n_rows + at_once - 1) // at_once
        length = sequences[sequence, Sequence.LENGTH]
        job[Attend.PAGES] = sequences[sequence, Sequence.PAGES]
        while piece < first_piece + per_head * kv_heads:
            kv = (piece - first_piece) // per_head
            first_row = (piece - first_piece) % per_head * at_once
            lowest = length
            highest = 0
            for index in range(at_once):
                # Rows that are not there repeat the last one, and write the same result.
                row = min(first_row + index, n_rows - 1)
                token, head = begin + row // group, kv * group + row % group
                position = length + row // group
                first = 0 if window == 0 else max(0, position - window + 1)
                at = Attend.ROWS + index * _ROW_FIELDS
                job[at + QueryRow.QUERY] = address_of(qkv[token, head * key :])
                job[at + QueryRow.FIRST] = first
                job[at + QueryRow.LAST] = position
                job[at + QueryRow.OUT] = address_of(attended[token, head * value :])
                job[at + QueryRow.OUT_SIZE] = value
                lowest = min(lowest, first)
                highest = max(highest, position)
            job[Attend.PAGE_BEGIN] = lowest // PAGE_TOKENS
            job[Attend.PAGE_END] = highest // PAGE_TOKENS + 1
            job[Attend.KEYS] = layer[Layer.KEYS] + kv * sizes[Size.KEY_HEAD_BYTES]
            job[Attend.VALUES] = layer[Layer.VALUES] + kv * sizes[Size.VALUE_HEAD_BYTES]
            job[Attend.KEY_FACTORS] = layer[Layer.KEY_FACTORS] + kv * PAGE_TOKENS * _FLOAT
            job[Attend.VALUE_FACTORS] = layer[Layer.VALUE_FACTORS] + kv * PAGE_TOKENS * _FLOAT
            call_function(function, address_of(job), 0)
            piece = atomic_add(taken, 1)
        first_piece += per_head * kv_heads


@njit(nogil=True, error_model="numpy")
def run_step(
    thread: int,
    sizes: Any,
    constants: Any,
    layers: Any,
    matrices: Any,
    vectors: Any,
    turns: Any,
    sequences: Any,
    tokens: Any,
    ids: Any,
    wanted: Any,
    functions: Any,
    stream: Any,
    normed: Any,
    qkv: Any,
    attended: Any,
    block_out: Any,
    inner: Any,
    input_planes: Any,
    inner_planes: Any,
    logits: Any,
    search: Any,
    jobs: Any,
    attends: Any,
    puts: Any,
    counters: Any,
    barrier: Any,
    times: Any,
) -> None:
    """A thread's part of a step. All threads of the team call it with the same arrays.

    Args:
        thread: which one, from 0.
        sizes: int64, see ``Size``.
        constants: float32, see ``Constant``.
        layers: int64 (layers, fields), see ``Layer``.
        matrices: int64 (matrices, fields), see ``Matrix``.
        vectors: float32, all norm weights and biases.
        turns: float32 (tables, 2, positions, pairs): cosines and sines.
        sequences: int64 (sequences, fields), see ``Sequence``.
        tokens: int64 (T,), the sequence that each belongs to.
        ids: int64 (T,), rows of the output matrix that are the embeddings; see ``Size.EMBED``.
        wanted: int64, the rows that logits are wanted of.
        functions: int64, addresses, see ``Function``.
        stream: float32 (copies, T, C), the residual stream, with the embeddings at the beginning.
        normed: float32 (copies, T, C).
        qkv: float32 (T, columns).
        attended: float32 (T, H*E).
        block_out: float32 (T, C).
        inner: float32 (3, T, F).
        input_planes: int64 (copies, 4), addresses of quantised inputs.
        inner_planes: int64 (4,), likewise of the feed-forward block's inner rows.
        logits: float32 (wanted, V rounded up to 16).
        search: arrays for finding the best logits only; see ``screening.find_best``.
        jobs: int64 (threads, 2, fields), records of their own for each thread.
        attends: int64 (threads, fields).
        puts: int64 (threads, fields).
        counters: int64, zeros.
        barrier: int64, zeros; see ``wait_for_all``.
        times: int64, receives the clock after each operation.
    """
    threads, n_tokens = sizes[Size.THREADS], sizes[Size.TOKENS]
    n_wanted = sizes[Size.WANTED]
    # Read now: behind the last barrier the caller may already prepare the next call.
    is_last = sizes[Size.LAYER_END] == sizes[Size.LAYERS]
    private, stride = sizes[Size.PRIVATE], sizes[Size.STRIDE]
    timed = sizes[Size.TIMED] and thread == 0
    width, centred = sizes[Size.WIDTH], sizes[Size.LAYER_NORM]
    eps = constants[Constant.NORM_EPS]
    copy = thread if private else 0
    x, h, planes = stream[copy], normed[copy], input_planes[copy]
    gate, up, activated = inner[0], inner[1], inner[2]
    job, down_job = jobs[thread, 0], jobs[thread, 1]
    meeting = address_of(barrier)
    row_bytes = block_out.shape[1] * _FLOAT
    cap_bits = np.int64(0)
    if constants[Constant.ATTENTION_CAP] != 0.0:
        cap_bits = np.int64(constants[Constant.ATTENTION_CAP : Constant.ATTENTION_CAP + 1].view(np.int32)[0])
    nothing = vectors[:0]
    low, high = _own_rows(sizes, thread, n_tokens)
    mark = 0
    if timed:
        times[0] = clock()
    if sizes[Size.EMBED] and sizes[Size.LAYER_BEGIN] == 0:
        for token in range(low, high):
            pick = puts[thread]
            pick[Pick.ROW] = ids[token]
            pick[Pick.OUT] = address_of(x[token])
            call_function(functions[Function.EMBED], address_of(matrices[sizes[Size.OUTPUT]]), address_of(pick))
            scale_row(x[token, :width], constants[Constant.EMBEDDING_SCALE])
    none = np.int64(-1)
    for index in range(sizes[Size.LAYER_BEGIN], sizes[Size.LAYER_END]):
        layer = layers[index]
        counter = index * COUNTERS_PER_LAYER
        if index > 0:
            before = layers[index - 1]
            for token in range(low, high):
                add_residual(
                    x[token, :width], _own(block_out[token, :width], h[token, :width], private),
                    _vector(vectors, before[Layer.DOWN_BIAS], width),
                    _vector(vectors, before[Layer.POST_FFN_NORM], width), eps, centred, nothing,
                )  # fmt: skip
        # -- attention ---------------------------------------------------------------------------
        quantized = (
            _wants_codes(matrices, layer[Layer.QUERY])
            or _wants_codes(matrices, layer[Layer.KEY])
            or _wants_codes(matrices, layer[Layer.VALUE])
        )
        _set_inputs(job, planes, h, stride)
        for token in range(low, high):
            norm(
                x[token], _vector(vectors, layer[Layer.ATTENTION_NORM], width),
                _vector(vectors, layer[Layer.ATTENTION_NORM_BIAS], width), eps, centred, h[token],
            )  # fmt: skip
            if quantized:
                _quantize_row(h[token], width, token, job)
        if not private:
            wait_for_all(meeting, threads)
        if timed:
            mark += 1
            times[mark] = clock()
        job[Job.OUT_STRIDE] = qkv.shape[1] * _FLOAT
        start = address_of(qkv)
        product(
            matrices, (layer[Layer.QUERY], layer[Layer.KEY], layer[Layer.VALUE]),
            (start, start + sizes[Size.KEYS_AT] * _FLOAT, start + sizes[Size.VALUES_AT] * _FLOAT),
            job, n_tokens, counters, counter, threads, _NO_CAP,
        )  # fmt: skip
        wait_for_all(meeting, threads)
        if timed:
            mark += 1
            times[mark] = clock()
        _rotate_and_store(
            thread, sizes, constants, layer, vectors, turns, sequences, tokens, qkv, functions,
            puts[thread],
        )  # fmt: skip
        wait_for_all(meeting, threads)
        if timed:
            mark += 1
            times[mark] = clock()
        _attend(
            sizes, cap_bits, layer, sequences, qkv, attended, functions, attends[thread], counters,
            counter + 1,
        )  # fmt: skip
        wait_for_all(meeting, threads)
        if timed:
            mark += 1
            times[mark] = clock()
        mixed = sizes[Size.HEADS] * sizes[Size.VALUE]
        _set_inputs(job, planes, attended, stride)
        if _wants_codes(matrices, layer[Layer.ATTENTION_OUTPUT]):
            for token in range(low, high):
                _quantize_row(attended[token], mixed, token, job)
            if not private:
                wait_for_all(meeting, threads)
        job[Job.OUT_STRIDE] = row_bytes
        start = address_of(block_out)
        product(
            matrices, (layer[Layer.ATTENTION_OUTPUT], none, none), (start, start, start), job,
            n_tokens, counters, counter + 2, threads, _NO_CAP,
        )  # fmt: skip
        wait_for_all(meeting, threads)
        if timed:
            mark += 1
            times[mark] = clock()
        # -- feed forward ------------------------------------------------------------------------
        quantized = _wants_codes(matrices, layer[Layer.UP])
        _set_inputs(job, planes, h, stride)
        for token in range(low, high):
            add_residual(
                x[token, :width], _own(block_out[token, :width], h[token, :width], private),
                _vector(vectors, layer[Layer.ATTENTION_OUTPUT_BIAS], width),
                _vector(vectors, layer[Layer.POST_ATTENTION_NORM], width), eps, centred, nothing,
            )  # fmt: skip
            norm(
                x[token], _vector(vectors, layer[Layer.FFN_NORM], width),
                _vector(vectors, layer[Layer.FFN_NORM_BIAS], width), eps, centred, h[token],
            )  # fmt: skip
            if quantized:
                _quantize_row(h[token], width, token, job)
        if not private:
            wait_for_all(meeting, threads)
        if timed:
            mark += 1
            times[mark] = clock()
        _set_inputs(down_job, inner_planes, activated, stride)
        if not _wants_codes(matrices, layer[Layer.DOWN]):
            down_job[Job.CODES] = 0
        job[Job.OUT_STRIDE] = gate.shape[1] * _FLOAT
        gated_product(
            matrices, (layer[Layer.GATE], layer[Layer.UP]), (gate, up, activated),
            (
                _vector(vectors, layer[Layer.GATE_BIAS], gate.shape[1]),
                _vector(vectors, layer[Layer.UP_BIAS], gate.shape[1]),
            ),
            job, down_job, n_tokens, counters, counter + 3, threads, sizes[Size.GELU],
        )  # fmt: skip
        wait_for_all(meeting, threads)
        if timed:
            mark += 1
            times[mark] = clock()
        down_job[Job.OUT_STRIDE] = row_bytes
        product(
            matrices, (layer[Layer.DOWN], none, none), (start, start, start), down_job,
            n_tokens, counters, counter + 4, threads, _NO_CAP,
        )  # fmt: skip
        wait_for_all(meeting, threads)
        if timed:
            mark += 1
            times[mark] = clock()
    if not is_last or n_wanted == 0:
        return
    # -- logits ----------------------------------------------------------------------------------
    last = layers[sizes[Size.LAYERS] - 1]
    weight = _vector(vectors, sizes[Size.OUTPUT_NORM], width)
    bias = _vector(vectors, sizes[Size.OUTPUT_NORM_BIAS], width)
    _set_inputs(job, planes, h, stride)
    quantized = _wants_codes(matrices, sizes[Size.OUTPUT])
    low, high = _own_rows(sizes, thread, n_wanted)
    for index in range(low, high):
        token = wanted[index]
        add_residual(
            x[token, :width], _own(block_out[token, :width], h[index, :width], private),
            _vector(vectors, last[Layer.DOWN_BIAS], width),
            _vector(vectors, last[Layer.POST_FFN_NORM], width), eps, centred, nothing,
        )  # fmt: skip
        norm(x[token], weight, bias, eps, centred, h[index])
        if quantized:
            _quantize_row(h[index], width, index, job)
    if not private:
        wait_for_all(meeting, threads)
    job[Job.OUT_STRIDE] = logits.shape[1] * _FLOAT
    counter = sizes[Size.LAYERS] * COUNTERS_PER_LAYER
    if sizes[Size.BEST_ONLY]:
        find_best(
            thread, sizes, matrices[sizes[Size.OUTPUT]], functions, job, search, n_wanted, counters,
            counter + 1, meeting,
        )  # fmt: skip
        if timed:
            mark += 1
            times[mark] = clock()
        return
    start = address_of(logits)
    product(
        matrices, (sizes[Size.OUTPUT], none, none), (start, start, start), job, n_wanted,
        counters, counter, threads,
        constants[Constant.LOGIT_CAP],
    )  # fmt: skip
    wait_for_all(meeting, threads)
    if timed:
        mark += 1
        times[mark] = clock()


@njit(nogil=True)
def _own(shared: Any, scratch: Any, private: int) -> Any:
    """A row that may be written to: threads with private copies must not change a shared one."""
    if not private:
        return shared
    scratch[:] = shared
    return scratch


