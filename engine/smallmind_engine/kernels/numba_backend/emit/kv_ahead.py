"""Asking for the next layer's keys and values while products keep the cores busy.

Attention of many sequences waits for memory and does little else; products of their tokens compute
and leave memory idle. So each thread walks along a list of what attention will read, a chunk with
each block of weights (``matmul``), the newest positions first: what a layer's products have no
time for comes when it is read.
"""

from __future__ import annotations

from typing import Any, Final

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.kv_rows import word_at
from smallmind_engine.kernels.numba_backend.emit.matmul import LANE_BYTES, TOKENS_AT_ONCE
from smallmind_engine.kernels.numba_backend.emit.step_parts import own_rows
from smallmind_engine.kernels.numba_backend.emit.vector_ir import LANES
from smallmind_engine.kernels.numba_backend.records import (
    MOST_AHEAD_TOKENS,
    PAGE_TOKENS,
    Job,
    Layer,
    Sequence,
    Size,
)

_WORD: Final = 8


@inner
def list_pages(s: Any, thread: int) -> None:
    """Write a thread's share of the list for this step: places in the first layer of each page.

    It is what the thread's own share of attention reads: caches are not shared by all cores.
    """
    n_tokens, n_sequences = s.sizes[Size.TOKENS], s.sizes[Size.SEQUENCES]
    threads = s.sizes[Size.THREADS]
    low, high = own_rows(s, thread, n_sequences)
    job, entries = s.jobs[thread, 0], s.ahead[thread]
    job[Job.AHEAD] = 0
    job[Job.AHEAD_END] = 0
    if n_tokens <= TOKENS_AT_ONCE or n_tokens > MOST_AHEAD_TOKENS:
        return
    chunk = (n_tokens + TOKENS_AT_ONCE - 1) // TOKENS_AT_ONCE * LANE_BYTES
    count = turn = back = 0
    more = True
    while more and count < len(entries):
        more = False
        for index in range(n_sequences):
            length = s.sequences[index, Sequence.LENGTH]
            page = (length + PAGE_TOKENS - 1) // PAGE_TOKENS - 1 - back
            if page < 0:
                continue
            more = True
            turn += 1
            if low <= index < high if n_sequences >= threads else turn % threads == thread:
                base = word_at(s.sequences[index, Sequence.PAGES] + page * _WORD)
                used = min(length - page * PAGE_TOKENS, PAGE_TOKENS)
                count = _list_page(s, entries, count, base, used, chunk)
        back += 1
    if count > 0:
        job[Job.AHEAD_END] = address_of(entries) + (count - 1) * _WORD


@inner
def _list_page(s: Any, entries: Any, count: int, base: int, used: int, chunk: int) -> int:
    """Add the used part of a page; answers how many entries there are then."""
    sizes, item = s.sizes, s.sizes[Size.ITEM_BYTES]
    keys = (used + LANES - 1) // LANES * LANES * sizes[Size.KEY] * item
    values = used * sizes[Size.VALUE_STORED] * item
    first = s.layers[0]
    for head in range(sizes[Size.KV_HEADS]):
        begin = base + first[Layer.KEYS] + head * sizes[Size.KEY_HEAD_BYTES]
        count = _list_run(entries, count, begin, keys, chunk)
        begin = base + first[Layer.VALUES] + head * sizes[Size.VALUE_HEAD_BYTES]
        count = _list_run(entries, count, begin, values, chunk)
    return count


@inner
def _list_run(entries: Any, count: int, begin: int, size: int, chunk: int) -> int:
    for at in range(begin, begin + size, chunk):
        if count == len(entries):
            break
        entries[count] = at
        count += 1
    return count


@inner
def ask_for_layer(s: Any, thread: int, layer: int) -> None:
    """Have the next products of a thread ask for a layer's keys and values from now on."""
    job = s.jobs[thread, 0]
    if layer >= s.sizes[Size.LAYERS] or job[Job.AHEAD_END] == 0:
        job[Job.AHEAD] = 0
        return
    job[Job.AHEAD] = address_of(s.ahead[thread])
    job[Job.AHEAD_OFFSET] = s.layers[layer, Layer.KEYS] - s.layers[0, Layer.KEYS]


@inner
def go_on_asking(before: Any, after: Any) -> None:
    """Have a job ask for what another has not come to."""
    after[Job.AHEAD] = before[Job.AHEAD]
    after[Job.AHEAD_END] = before[Job.AHEAD_END]
    after[Job.AHEAD_OFFSET] = before[Job.AHEAD_OFFSET]
