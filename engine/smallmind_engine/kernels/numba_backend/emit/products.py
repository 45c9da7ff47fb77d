"""Handing out the pieces of matrix products to the threads of a team."""

from __future__ import annotations

from typing import Any, Final

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of, call_function
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.rows_ir import activate, quantize, softcap
from smallmind_engine.kernels.numba_backend.emit.step_parts import share_of, shares_of
from smallmind_engine.kernels.numba_backend.emit.sync_ir import atomic_add, atomic_read
from smallmind_engine.kernels.numba_backend.records import (
    COUNTER_WORDS,
    TOKEN_TILE,
    Job,
    Matrix,
)

_PIECES_PER_THREAD: Final = 6
_MOST_UNITS: Final = 16
"""Row groups, or pairs of them, of a piece when there are several tiles of tokens, so that its
weights stay in L2."""

_PIECES_OF_THE_REST: Final = 2
"""A thread takes one of so many parts of what is left of a share."""

_GROUP: Final = 16

KERNEL, GROUPS = int(Matrix.KERNEL), int(Matrix.GROUPS)
GROUP_BEGIN, GROUP_END = int(Job.GROUP_BEGIN), int(Job.GROUP_END)
TOKEN_BEGIN, TOKEN_END = int(Job.TOKEN_BEGIN), int(Job.TOKEN_END)
STRIDE, CODES, SCALES = int(Job.STRIDE), int(Job.CODES), int(Job.SCALES)
OUT, OUT_STRIDE = int(Job.OUT), int(Job.OUT_STRIDE)


@inner
def _take(taken: int, units: int, tiles: int, threads: int, thread: int) -> tuple[int, int, int]:
    """Take the next piece: its first unit, the one behind its last, and its tile of tokens.

    Nothing is left when the first unit is the last one's end. With one tile each thread has a share
    of the units. It takes pieces that are the smaller the less is left of it, then likewise of
    others' shares, so that all are done at about the same time (guided self-scheduling,
    Polychronopoulos & Kuck 1987, IEEE Transactions on Computers C-36).

    Args:
        taken: address of the counter.
        units: in all.
        tiles: of tokens.
        threads: in the team.
        thread: which one asks.
    """
    if tiles > 1:
        size = min(max(1, units // (threads * _PIECES_PER_THREAD)), _MOST_UNITS)
        piece = atomic_add(taken, 1)
        begin = piece // tiles * size
        return min(begin, units), min(begin + size, units), piece % tiles
    for turn in range(shares_of(threads)):
        share, low, high = share_of(thread, turn, threads, units)
        word = taken + 8 * share
        size = max(1, (high - low - atomic_read(word)) // _PIECES_OF_THE_REST)
        begin = low + atomic_add(word, size)
        if begin < high:
            return begin, min(begin + size, high), 0
    return units, units, 0


@inner
def _multiply(matrices: Any, index: int, job: Any, out: int, begin: int, end: int) -> None:
    job[GROUP_BEGIN] = begin
    job[GROUP_END] = end
    job[OUT] = out
    call_function(matrices[index, KERNEL], address_of(matrices[index]), address_of(job))


@inner
def product(
    matrices: Any,
    which: Any,
    outs: Any,
    job: Any,
    n_tokens: int,
    counters: Any,
    counter: int,
    threads: int,
    thread: int,
    cap: Any,
) -> None:
    """Multiply the job's inputs with up to three matrices; returns when no piece is left.

    Args:
        matrices: the table of ``Matrix`` records.
        which: three indices into it; -1 for none.
        outs: three addresses: where the outputs of each go.
        job: the thread's ``Job`` record, with the inputs filled in.
        n_tokens: rows of the inputs.
        counters: pieces taken so far; ``counter`` is the one to use.
        counter: its index.
        threads: in the team.
        thread: which one.
        cap: soft cap of the outputs; 0 for none.
    """
    groups = 0
    for place in range(3):
        if which[place] >= 0:
            groups += matrices[which[place], GROUPS]
    tiles = (n_tokens + TOKEN_TILE - 1) // TOKEN_TILE
    taken = address_of(counters[counter * COUNTER_WORDS :])
    while True:
        begin, end, tile = _take(taken, groups, tiles, threads, thread)
        if begin == end:
            return
        job[TOKEN_BEGIN] = tile * TOKEN_TILE
        job[TOKEN_END] = min(n_tokens, job[TOKEN_BEGIN] + TOKEN_TILE)
        first = 0
        for place in range(3):
            if which[place] < 0:
                continue
            count = matrices[which[place], GROUPS]
            low, high = max(begin - first, 0), min(end - first, count)
            if low < high:
                _multiply(matrices, which[place], job, outs[place], low, high)
                if cap != 0.0:
                    for token in range(job[TOKEN_BEGIN], job[TOKEN_END]):
                        row = outs[place] + token * job[OUT_STRIDE] + low * _GROUP * 4
                        softcap(row, (high - low) * _GROUP, cap)
            first += count


@inner
def gated_product(
    matrices: Any,
    which: Any,
    buffers: Any,
    biases: Any,
    job: Any,
    quantized: Any,
    n_tokens: int,
    counters: Any,
    counter: int,
    threads: int,
    thread: int,
    kind: int,
) -> None:
    """The first half of the feed-forward block: two products, the activation, and quantising.

    A piece's outputs are activated and quantised by the thread that computed them, while they
    are in its cache.

    Args:
        matrices: as in ``product``.
        which: gate (-1 for blocks without one) and up.
        buffers: float32 arrays (tokens, inner width) for gate, up and the activated product.
        biases: float32 vectors of gate and up; empty for none.
        job: as in ``product``.
        quantized: a ``Job`` record that tells where the quantised product goes; codes 0 when
            it is not to be quantised.
        n_tokens: as in ``product``.
        counters: as in ``product``.
        counter: as in ``product``.
        threads: as in ``product``.
        thread: as in ``product``.
        kind: of the activation; see ``activate``.
    """
    gate, up, inner = buffers
    groups = matrices[which[1], GROUPS]
    pairs = (groups + 1) // 2  # a quantised block has two groups of outputs
    tiles = (n_tokens + TOKEN_TILE - 1) // TOKEN_TILE
    taken = address_of(counters[counter * COUNTER_WORDS :])
    while True:
        first_pair, last_pair, tile = _take(taken, pairs, tiles, threads, thread)
        if first_pair == last_pair:
            return
        begin_token = tile * TOKEN_TILE
        end_token = min(n_tokens, begin_token + TOKEN_TILE)
        job[TOKEN_BEGIN] = begin_token
        job[TOKEN_END] = end_token
        begin, end = first_pair * 2, min(groups, last_pair * 2)
        if which[0] >= 0:
            _multiply(matrices, which[0], job, address_of(gate), begin, end)
        _multiply(matrices, which[1], job, address_of(up), begin, end)
        first, last = begin * _GROUP, end * _GROUP
        for token in range(begin_token, end_token):
            if which[0] >= 0:
                _add_bias(gate[token], biases[0], first, last)
            _add_bias(up[token], biases[1], first, last)
            out = address_of(inner[token, first:])
            if which[0] >= 0:
                other = address_of(up[token, first:])
                activate(kind, address_of(gate[token, first:]), other, out, last - first)
            else:
                activate(kind, address_of(up[token, first:]), 0, out, last - first)
            if quantized[CODES] != 0:
                quantize(
                    address_of(inner[token]),
                    begin // 2,
                    (end + 1) // 2,
                    quantized[STRIDE],
                    token,
                    quantized[CODES],
                    quantized[SCALES],
                )


@inner
def _add_bias(row: Any, bias: Any, begin: int, end: int) -> None:
    if len(bias):
        for column in range(begin, min(end, len(bias))):
            row[column] += bias[column]
