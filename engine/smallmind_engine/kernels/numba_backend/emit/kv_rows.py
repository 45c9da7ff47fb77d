"""Queries, keys and values after their projection: bias, norm, rotation, and into the cache."""

# T tokens, H query heads, K kv-heads

from __future__ import annotations

from typing import Any, Final

from numba.core import types

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of, call_function
from smallmind_engine.kernels.numba_backend.emit.compiled import inner, inner_inlined
from smallmind_engine.kernels.numba_backend.emit.row_work import norm, rotate, scale_row
from smallmind_engine.kernels.numba_backend.emit.step_parts import FLOAT_BYTES, vector
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    I64,
    LANES,
    Code,
    Value,
    ir_function,
)
from smallmind_engine.kernels.numba_backend.records import (
    PAGE_TOKENS,
    Constant,
    Function,
    Layer,
    Put,
    Sequence,
    Size,
)

_QUERY: Final = 0
_KEY: Final = 1
_VALUE: Final = 2


def _read(code: Code, address: Value) -> Value:
    return code.load(I64, address, 8)


word_at: Any = ir_function(_read, 1, types.int64)


@inner
def rotate_and_store(s: Any, thread: int, layer: Any) -> None:
    """A thread's share of the heads of all tokens."""
    heads, kv_heads = s.sizes[Size.HEADS], s.sizes[Size.KV_HEADS]
    per_token = heads + 2 * kv_heads
    count, threads = s.sizes[Size.TOKENS] * per_token, s.sizes[Size.THREADS]
    for item in range(count * thread // threads, count * (thread + 1) // threads):
        token, head = item // per_token, item % per_token
        if head < heads:
            _prepare(s, layer, token, _QUERY, head)
        elif head < heads + kv_heads:
            row = _prepare(s, layer, token, _KEY, head - heads)
            _store_key(s, thread, layer, token, head - heads, row)
        else:
            row = _prepare(s, layer, token, _VALUE, head - heads - kv_heads)
            _store_value(s, thread, layer, token, head - heads - kv_heads, row)


@inner_inlined
def _prepare(s: Any, layer: Any, token: int, what: int, head: int) -> Any:
    """Add the bias of a head; norm, rotate and scale it as far as it is subject to that."""
    size = s.sizes[Size.VALUE] if what == _VALUE else s.sizes[Size.KEY]
    column = head * size
    if what == _KEY:
        column += s.sizes[Size.KEYS_AT]
    elif what == _VALUE:
        column += s.sizes[Size.VALUES_AT]
    row = s.qkv[token, column : column + size]
    bias = vector(s.vectors, layer[Layer.QKV_BIAS], s.qkv.shape[1])
    if len(bias):
        for i in range(size):
            row[i] += bias[column + i]
    if what == _VALUE:
        return row
    place = layer[Layer.QUERY_NORM] if what == _QUERY else layer[Layer.KEY_NORM]
    weight = vector(s.vectors, place, size)
    if len(weight):
        norm(row, weight, s.vectors[:0], s.constants[Constant.NORM_EPS], 0, row)
    turn = layer[Layer.ROTATION]
    if turn >= 0:
        pairs, position = layer[Layer.PAIRS], _position(s, token)
        rotate(row, s.turns[turn, 0, position, :pairs], s.turns[turn, 1, position, :pairs])
    if what == _QUERY:
        scale_row(row, s.constants[Constant.ATTENTION_SCALE])
    return row


@inner
def _position(s: Any, token: int) -> Any:
    sequence = s.sequences[s.tokens[token]]
    return sequence[Sequence.LENGTH] + token - sequence[Sequence.TOKEN_BEGIN]


@inner
def _page(s: Any, token: int) -> Any:
    """Address of the page that a token belongs to."""
    pages = s.sequences[s.tokens[token], Sequence.PAGES]
    return word_at(pages + _position(s, token) // PAGE_TOKENS * 8)


@inner
def _store_key(s: Any, thread: int, layer: Any, token: int, kv: int, row: Any) -> None:
    page, within = _page(s, token), _position(s, token) % PAGE_TOKENS
    item = s.sizes[Size.ITEM_BYTES]
    put = s.puts[thread]
    base = page + layer[Layer.KEYS] + kv * s.sizes[Size.KEY_HEAD_BYTES]
    group, lane = within // LANES, within % LANES
    put[Put.TARGET] = base + (group * s.sizes[Size.KEY] * LANES + lane) * item
    put[Put.STEP] = LANES * item
    put[Put.FACTOR] = page + layer[Layer.KEY_FACTORS] + (kv * PAGE_TOKENS + within) * FLOAT_BYTES
    _put(s, put, row)


@inner
def _store_value(s: Any, thread: int, layer: Any, token: int, kv: int, row: Any) -> None:
    page, within = _page(s, token), _position(s, token) % PAGE_TOKENS
    item = s.sizes[Size.ITEM_BYTES]
    put = s.puts[thread]
    base = page + layer[Layer.VALUES] + kv * s.sizes[Size.VALUE_HEAD_BYTES]
    put[Put.TARGET] = base + within * s.sizes[Size.VALUE_STORED] * item
    put[Put.STEP] = item
    put[Put.FACTOR] = page + layer[Layer.VALUE_FACTORS] + (kv * PAGE_TOKENS + within) * FLOAT_BYTES
    _put(s, put, row)


@inner
def _put(s: Any, put: Any, row: Any) -> None:
    put[Put.SOURCE] = address_of(row)
    put[Put.COUNT] = len(row)
    call_function(s.functions[Function.STORE_ROW], address_of(put), 0)
