"""Finding the largest outputs of a matrix without reading all of its bits.

The output matrix is often the largest of a model, and a greedy choice needs one row of it. Reading
the upper halves of its codes bounds every output (``screening_ir``). The likeliest group of each
thread is computed in full; rows whose upper bound is below the best of those are out; the few
others are computed in full, too. The first of each token are a sample: if one is further off than
the model of the error allows, the answer is dismissed, and the caller computes everything.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of, call_function
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.matmul import LANE_BYTES
from smallmind_engine.kernels.numba_backend.emit.rows_ir import BLOCK
from smallmind_engine.kernels.numba_backend.emit.screening_ir import DEVIATION, ESTIMATE, terms
from smallmind_engine.kernels.numba_backend.emit.step_parts import (
    FLOAT_BYTES,
    clear_doubts,
    next_groups,
)
from smallmind_engine.kernels.numba_backend.emit.sync_ir import wait_for_all
from smallmind_engine.kernels.numba_backend.emit.vector_ir import LANES
from smallmind_engine.kernels.numba_backend.records import Function, Job, Matrix, Size

PLAUSIBLE: Final = 6.0
"""An output further off than this shows that the model of the error is wrong here."""

_CHECKED: Final = 8
"""Groups of a token that a thread checks the model of the error with, beside the likeliest."""

_GROUPS_AT_ONCE: Final = 64
_GROUPS_IN_CACHE: Final = 16
_NONE: Final = np.float32(-np.inf)


@inner
def _best_of_group(s: Any, thread: int, job: Any, token: int, group: Any) -> tuple[Any, Any]:
    """Compute 16 outputs in full: the best, and its row."""
    bounds, _, _, scratches, exacts, _, _, doubts, _ = s.search
    scratch, exact = scratches[thread], exacts[thread]
    matrix = s.matrices[s.sizes[Size.OUTPUT]]
    job[Job.GROUP_BEGIN] = group
    job[Job.GROUP_END] = group + 1
    job[Job.TOKEN_BEGIN] = token
    job[Job.TOKEN_END] = token + 1
    checked = s.search[6][thread, token, 1] < _CHECKED
    if checked:
        job[Job.OUT] = address_of(bounds)
        call_function(s.functions[Function.SCREEN], address_of(matrix), address_of(job))
    # So that the outputs of this group and token are the 16 of ``exact``.
    job[Job.OUT] = address_of(exact) - token * job[Job.OUT_STRIDE] - group * LANE_BYTES
    call_function(matrix[Matrix.KERNEL], address_of(matrix), address_of(job))
    doubts[thread, 1] += 1
    s.search[6][thread, token, 1] += 1
    best, row = _NONE, np.int64(-1)
    for lane in range(min(LANES, matrix[Matrix.ROWS] - group * LANES)):
        value = exact[lane]
        # What is not checked is still seen to be a number: of others the difference is none.
        off = abs(value - scratch[ESTIMATE, lane]) if checked else value - value
        if not off <= PLAUSIBLE * scratch[DEVIATION, lane]:
            doubts[thread, 0] = 1
        if value > best:
            best, row = value, np.int64(group * LANES + lane)
    return best, row


@inner
def _bound_groups(s: Any, job: Any, tile: int, first: int, last: int) -> None:
    """Bound the outputs of some groups for all tokens."""
    n_wanted = s.sizes[Size.WANTED]
    function, scratch = s.functions[Function.SCREEN], job[Job.SCRATCH]
    if n_wanted > 1:
        function, job[Job.SCRATCH] = s.functions[Function.SCREEN_SEVERAL], tile
    job[Job.GROUP_BEGIN] = first
    job[Job.GROUP_END] = last
    job[Job.TOKEN_BEGIN] = 0
    job[Job.TOKEN_END] = n_wanted
    job[Job.OUT] = address_of(s.search[0])
    call_function(function, address_of(s.matrices[s.sizes[Size.OUTPUT]]), address_of(job))
    job[Job.SCRATCH] = scratch


@inner
def _bound_all(s: Any, thread: int, job: Any, tile: int, counter: int) -> None:
    """Bound all outputs, and compute the group of each token that is likeliest its best."""
    bounds, reached = s.search[0], s.search[2]
    n_wanted, highest, likeliest = s.sizes[Size.WANTED], s.search[5][thread], s.search[6][thread]
    for token in range(n_wanted):
        highest[token, 0] = _NONE
        likeliest[token, 0] = -1
    first, last = next_groups(s, counter, _GROUPS_AT_ONCE)
    while first < last:
        _bound_groups(s, job, tile, first, last)
        for token in range(n_wanted):
            row, most, where = bounds[token], highest[token, 0], likeliest[token, 0]
            for group in range(first, last):
                if row[group] > most:
                    most, where = row[group], np.int64(group)
            highest[token, 0] = most
            likeliest[token, 0] = where
        first, last = next_groups(s, counter, _GROUPS_AT_ONCE)
    for token in range(n_wanted):
        reached[token, thread, 0] = _NONE
        likeliest[token, 1] = 0
        if likeliest[token, 0] >= 0:
            best, _ = _best_of_group(s, thread, job, token, likeliest[token, 0])
            reached[token, thread, 0] = best


@inner
def _find_in_groups(s: Any, thread: int, job: Any, token: int, first: int, last: int) -> None:
    """Compute those of some groups in full that may hold the best output of a token."""
    bounds, reached = s.search[0][token], s.search[2][token]
    best, best_row = s.search[5][thread, token], s.search[6][thread, token]
    bar = reached[0, 0]
    for other in range(1, s.sizes[Size.THREADS]):
        bar = max(bar, reached[other, 0])
    for group in range(first, last):
        if bounds[group] >= bar:
            value, row = _best_of_group(s, thread, job, token, group)
            if value > best[0] or (value == best[0] and row < best_row[0]):
                best[0] = value
                best_row[0] = row


@inner
def _find_in_bounds(s: Any, thread: int, job: Any, counter: int) -> None:
    """Find the best outputs of all tokens among what their bounds leave.

    A few groups are gone through for one token after the other: where many may hold the best of
    several, their weights come from memory once.
    """
    n_wanted, best, best_row = s.sizes[Size.WANTED], s.search[5][thread], s.search[6][thread]
    for token in range(n_wanted):
        best[token, 0] = _NONE
        best_row[token, 0] = -1
        best_row[token, 1] = 0
    first, last = next_groups(s, counter, _GROUPS_IN_CACHE)
    while first < last:
        for token in range(n_wanted):
            _find_in_groups(s, thread, job, token, first, last)
        first, last = next_groups(s, counter, _GROUPS_IN_CACHE)


@inner
def find_best(s: Any, thread: int, job: Any, counter: int) -> None:
    """A thread's part of finding the best output for each of some tokens.

    Args:
        s: the step; ``s.search`` receives the results, see ``buffers.SearchBuffers``.
        thread: which one, from 0.
        job: the thread's record, with the inputs filled in.
        counter: the first of one for the bounds, and one for the search among them.
    """
    n_wanted, threads = s.sizes[Size.WANTED], s.sizes[Size.THREADS]
    tile, own_terms = job[Job.SCRATCH], s.search[1][thread]
    job[Job.SCRATCH] = address_of(s.search[3][thread])
    job[Job.OUT_STRIDE] = s.search[0].shape[1] * FLOAT_BYTES
    job[Job.TERMS] = address_of(own_terms)
    job[Job.TERM_STRIDE] = own_terms.shape[1] * FLOAT_BYTES
    blocks = s.matrices[s.sizes[Size.OUTPUT], Matrix.COLUMNS] // BLOCK
    clear_doubts(s, thread)
    for token in range(n_wanted):
        terms(
            job[Job.CODES], job[Job.FACTORS], job[Job.SUMS], job[Job.STRIDE], token, blocks,
            address_of(own_terms[token]),
        )  # fmt: skip
    _bound_all(s, thread, job, tile, counter)
    wait_for_all(address_of(s.barrier), threads)
    _find_in_bounds(s, thread, job, counter + 1)
    job[Job.SCRATCH] = tile
    wait_for_all(address_of(s.barrier), threads)
