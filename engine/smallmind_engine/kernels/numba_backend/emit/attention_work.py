"""Handing out attention: each piece is a few query rows of one key-value head."""

# H query heads, K kv-heads

from __future__ import annotations

from typing import Any, Final

import numpy as np

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of, call_function
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.step_parts import FLOAT_BYTES
from smallmind_engine.kernels.numba_backend.emit.sync_ir import atomic_add
from smallmind_engine.kernels.numba_backend.records import (
    COUNTER_WORDS,
    PAGE_TOKENS,
    Attend,
    Constant,
    Function,
    Layer,
    QueryRow,
    Sequence,
    Size,
)

_ROW_FIELDS: Final = len(QueryRow)


@inner
def attend(s: Any, thread: int, layer: Any, counter: int) -> None:
    """Take pieces until none is left."""
    job = s.attends[thread]
    at_once, kv_heads = s.sizes[Size.QUERY_ROWS], s.sizes[Size.KV_HEADS]
    group = s.sizes[Size.HEADS] // kv_heads
    job[Attend.KEY_SIZE] = s.sizes[Size.KEY]
    job[Attend.VALUE_SIZE] = s.sizes[Size.VALUE_STORED]
    cap = s.constants[Constant.ATTENTION_CAP : Constant.ATTENTION_CAP + 1]
    job[Attend.CAP] = 0 if cap[0] == 0.0 else np.int64(cap.view(np.int32)[0])
    taken = address_of(s.counters[counter * COUNTER_WORDS :])
    piece = atomic_add(taken, 1)
    first_piece = 0
    for index in range(s.sizes[Size.SEQUENCES]):
        sequence = s.sequences[index]
        n_tokens = sequence[Sequence.TOKEN_END] - sequence[Sequence.TOKEN_BEGIN]
        per_head = (n_tokens * group + at_once - 1) // at_once
        job[Attend.PAGES] = sequence[Sequence.PAGES]
        while piece < first_piece + per_head * kv_heads:
            kv, place = (piece - first_piece) // per_head, (piece - first_piece) % per_head
            _set_rows(s, layer, sequence, job, kv, place * at_once)
            _set_head(s, layer, job, kv)
            function = s.functions[Function.ATTEND + at_once - 1]
            call_function(function, address_of(job), 0)
            piece = atomic_add(taken, 1)
        first_piece += per_head * kv_heads


@inner
def _set_rows(s: Any, layer: Any, sequence: Any, job: Any, kv: int, first_row: int) -> None:
    """Describe the query rows, and the pages that any of them sees."""
    group = s.sizes[Size.HEADS] // s.sizes[Size.KV_HEADS]
    key, value = s.sizes[Size.KEY], s.sizes[Size.VALUE]
    begin, length = sequence[Sequence.TOKEN_BEGIN], sequence[Sequence.LENGTH]
    last_row = (sequence[Sequence.TOKEN_END] - begin) * group - 1
    window = layer[Layer.WINDOW]
    lowest, highest = length + last_row, 0
    for index in range(s.sizes[Size.QUERY_ROWS]):
        # Rows that are not there repeat the last one, and write the same result.
        row = min(first_row + index, last_row)
        token, head = begin + row // group, kv * group + row % group
        position = length + row // group
        first = 0 if window == 0 else max(0, position - window + 1)
        at = Attend.ROWS + index * _ROW_FIELDS
        job[at + QueryRow.QUERY] = address_of(s.qkv[token, head * key :])
        job[at + QueryRow.FIRST] = first
        job[at + QueryRow.LAST] = position
        job[at + QueryRow.OUT] = address_of(s.attended[token, head * value :])
        job[at + QueryRow.OUT_SIZE] = value
        lowest, highest = min(lowest, first), max(highest, position)
    job[Attend.PAGE_BEGIN] = lowest // PAGE_TOKENS
    job[Attend.PAGE_END] = highest // PAGE_TOKENS + 1


@inner
def _set_head(s: Any, layer: Any, job: Any, kv: int) -> None:
    """Say where in a page the head's keys and values are."""
    factors = kv * PAGE_TOKENS * FLOAT_BYTES
    job[Attend.KEYS] = layer[Layer.KEYS] + kv * s.sizes[Size.KEY_HEAD_BYTES]
    job[Attend.VALUES] = layer[Layer.VALUES] + kv * s.sizes[Size.VALUE_HEAD_BYTES]
    job[Attend.KEY_FACTORS] = layer[Layer.KEY_FACTORS] + factors
    job[Attend.VALUE_FACTORS] = layer[Layer.VALUE_FACTORS] + factors
