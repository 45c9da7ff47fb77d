"""Handing out attention: each piece is a few query rows of one key-value head."""

# H query heads, K kv-heads

from __future__ import annotations

from typing import Any, Final

import numpy as np

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of, call_function
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.step_parts import FLOAT_BYTES, share_of, shares_of
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
    """Take pieces until none is left.

    Those of the sequences whose rows the thread has prepared come first: their queries and newest
    keys are in its cache, and it goes on with their outputs. Then it helps others.
    """
    job, kv_heads, threads = s.attends[thread], s.sizes[Size.KV_HEADS], s.sizes[Size.THREADS]
    job[Attend.KEY_SIZE] = s.sizes[Size.KEY]
    job[Attend.VALUE_SIZE] = s.sizes[Size.VALUE_STORED]
    cap = s.constants[Constant.ATTENTION_CAP : Constant.ATTENTION_CAP + 1]
    job[Attend.CAP] = 0 if cap[0] == 0.0 else np.int64(cap.view(np.int32)[0])
    pieces = 0
    for index in range(s.sizes[Size.SEQUENCES]):
        pieces += _pieces_per_head(s, index) * kv_heads
    for turn in range(shares_of(threads)):
        share, begin, end = share_of(thread, turn, threads, pieces)
        _attend_share(s, layer, job, counter * COUNTER_WORDS + share, begin, end)


@inner
def _attend_share(s: Any, layer: Any, job: Any, counter: int, begin: int, end: int) -> None:
    """Take pieces between two, which ``counter`` counts."""
    kv_heads, at_once = s.sizes[Size.KV_HEADS], s.sizes[Size.QUERY_ROWS]
    taken = address_of(s.counters[counter:])
    piece = begin + atomic_add(taken, 1)
    index = first_piece = 0
    while piece < end:
        per_head = _pieces_per_head(s, index)
        if piece >= first_piece + per_head * kv_heads:
            first_piece += per_head * kv_heads
            index += 1
            continue
        sequence = s.sequences[index]
        job[Attend.PAGES] = sequence[Sequence.PAGES]
        kv, place = (piece - first_piece) // per_head, (piece - first_piece) % per_head
        _set_rows(s, layer, sequence, job, kv, place * at_once)
        _set_head(s, layer, job, kv)
        call_function(s.functions[Function.ATTEND + at_once - 1], address_of(job), 0)
        piece = begin + atomic_add(taken, 1)


@inner
def _pieces_per_head(s: Any, index: int) -> Any:
    """Of a sequence."""
    sequence, at_once = s.sequences[index], s.sizes[Size.QUERY_ROWS]
    n_tokens = sequence[Sequence.TOKEN_END] - sequence[Sequence.TOKEN_BEGIN]
    group = s.sizes[Size.HEADS] // s.sizes[Size.KV_HEADS]
    return (n_tokens * group + at_once - 1) // at_once


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
