"""Finding the largest outputs of a matrix without reading all of its bits.

The output matrix is often the largest of a model, and a greedy choice needs one row of it. Reading
the upper halves of its codes bounds every output (``screening_ir``). The likeliest group of each
thread is computed in full; rows whose upper bound is below the best of those are out; the few
others are computed in full, too, for four tokens together where a group is in doubt for several.
The first of each token are a sample: if one is further off than the model of the error allows,
the answer is dismissed, and the caller computes everything.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of, call_function
from smallmind_engine.kernels.numba_backend.emit.best_outputs import highest
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.matmul import LANE_BYTES, TOKENS_AT_ONCE
from smallmind_engine.kernels.numba_backend.emit.outliers import find_outliers
from smallmind_engine.kernels.numba_backend.emit.rows_ir import BLOCK
from smallmind_engine.kernels.numba_backend.emit.screening_ir import DEVIATION, ESTIMATE, terms
from smallmind_engine.kernels.numba_backend.emit.step_parts import (
    FLOAT_BYTES,
    clear_doubts,
    next_groups,
)
from smallmind_engine.kernels.numba_backend.emit.sync_ir import wait_for_all
from smallmind_engine.kernels.numba_backend.emit.vector_ir import LANES
from smallmind_engine.kernels.numba_backend.records import (
    OUTLIERS,
    SEARCHED_GROUPS,
    Function,
    Job,
    Matrix,
    Size,
)

PLAUSIBLE: Final = 6.0
"""An output further off than this shows that the model of the error is wrong here."""

_CHECKED: Final = 8
"""Groups of a token that a thread checks the model of the error with, the likeliest among them."""

_GROUPS_AT_ONCE: Final = 64
_NONE: Final = np.float32(-np.inf)


@inner
def _keep_best(s: Any, thread: int, token: int, group: Any, outputs: Any) -> None:
    """Note the best of 16 outputs of a token, if no better one is known."""
    best, best_row = s.search[5][thread, token], s.search[6][thread, token]
    for lane in range(s.matrices[s.sizes[Size.OUTPUT], Matrix.ROWS] - group * LANES, LANES):
        outputs[lane] = _NONE
    value = highest(address_of(outputs), 1)
    if not math.isfinite(value):
        s.search[7][thread, 0] = 1
    elif value >= best[0]:
        row = np.int64(group * LANES)
        for lane in range(LANES - 1, -1, -1):
            if outputs[lane] == value:
                row = np.int64(group * LANES + lane)
        if value > best[0] or row < best_row[0]:
            best[0] = value
            best_row[0] = row
            best[1] = max(best[1], value)


@inner
def _check_model(s: Any, thread: int, job: Any, group: Any, outputs: Any) -> None:
    """Dismiss the search if one of 16 outputs is implausible by what bounds it."""
    scratch, matrix = s.search[3][thread], s.matrices[s.sizes[Size.OUTPUT]]
    job[Job.OUT] = address_of(s.search[0])
    call_function(s.functions[Function.SCREEN], address_of(matrix), address_of(job))
    for lane in range(min(LANES, matrix[Matrix.ROWS] - group * LANES)):
        off = abs(outputs[lane] - scratch[ESTIMATE, lane])
        if not off <= PLAUSIBLE * scratch[DEVIATION, lane]:
            s.search[7][thread, 0] = 1


@inner
def _compute_one(s: Any, thread: int, job: Any, token: int, group: Any) -> None:
    """Compute 16 outputs of a token in full."""
    exact = s.search[4][thread, 0]
    matrix = s.matrices[s.sizes[Size.OUTPUT]]
    job[Job.GROUP_BEGIN] = group
    job[Job.GROUP_END] = group + 1
    job[Job.TOKEN_BEGIN] = token
    job[Job.TOKEN_END] = token + 1
    # So that the outputs of this group and token are the 16 of ``exact``.
    job[Job.OUT] = address_of(exact) - token * job[Job.OUT_STRIDE] - group * LANE_BYTES
    call_function(matrix[Matrix.KERNEL], address_of(matrix), address_of(job))
    s.search[7][thread, 1] += 1
    checked = s.search[6][thread, token, 1]
    if checked < _CHECKED:
        s.search[6][thread, token, 1] = checked + 1
        _check_model(s, thread, job, group, exact)
    _keep_best(s, thread, token, group, exact)


@inner
def _compute_picked(s: Any, thread: int, job: Any, count: int, group: Any) -> None:
    """Compute 16 outputs in full for the first ``count`` tokens of a list."""
    picked, exact = s.search[9][thread], s.search[4][thread]
    if count == 1:
        _compute_one(s, thread, job, picked[0], group)
        return
    for place in range(count, TOKENS_AT_ONCE):
        picked[place] = picked[0]
    matrix, stride = s.matrices[s.sizes[Size.OUTPUT]], job[Job.OUT_STRIDE]
    job[Job.GROUP_BEGIN] = group
    job[Job.GROUP_END] = group + 1
    job[Job.PICKED] = address_of(picked)
    job[Job.OUT_STRIDE] = LANE_BYTES
    job[Job.OUT] = address_of(exact) - group * LANE_BYTES
    call_function(s.functions[Function.PICKED], address_of(matrix), address_of(job))
    job[Job.OUT_STRIDE] = stride
    s.search[7][thread, 1] += 1
    for place in range(count):
        _keep_best(s, thread, picked[place], group, exact[place])


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
    first, last = next_groups(s, thread, counter, _GROUPS_AT_ONCE)
    while first < last:
        _bound_groups(s, job, tile, first, last)
        for token in range(n_wanted):
            row, most, where = bounds[token], highest[token, 0], likeliest[token, 0]
            for group in range(first, last):
                if row[group] > most:
                    most, where = row[group], np.int64(group)
            highest[token, 0] = most
            likeliest[token, 0] = where
        first, last = next_groups(s, thread, counter, _GROUPS_AT_ONCE)
    for token in range(n_wanted):
        group, likeliest[token, 0], likeliest[token, 1] = likeliest[token, 0], -1, 0
        highest[token, 0] = highest[token, 1] = _NONE
        if group >= 0:
            _compute_one(s, thread, job, token, group)
            bounds[token, group] = _NONE  # it need not be computed again
        reached[token, thread, 0] = highest[token, 0]


@inner
def _find_in_group(s: Any, thread: int, job: Any, group: Any) -> None:
    """Compute a group in full for the tokens whose best output it may hold."""
    bounds, best, best_row = s.search[0], s.search[5][thread], s.search[6][thread]
    picked, count = s.search[9][thread], 0
    for token in range(s.sizes[Size.WANTED]):
        if bounds[token, group] < best[token, 1]:
            continue
        if best_row[token, 1] < _CHECKED:
            _compute_one(s, thread, job, token, group)
            continue
        picked[count] = token
        count += 1
        if count == TOKENS_AT_ONCE:
            _compute_picked(s, thread, job, count, group)
            count = 0
    if count:
        _compute_picked(s, thread, job, count, group)


@inner
def _mark_undecided(
    bounds: Any, best: Any, n_wanted: int, first: Any, last: Any, undecided: Any
) -> None:
    """Find out which of some groups may hold the best output of any token."""
    for place in range(last - first):
        undecided[place] = 0
    for token in range(n_wanted):
        row, bar = bounds[token], best[token, 1]
        for group in range(first, last):
            if not row[group] < bar:  # nor where a bound is no number
                undecided[group - first] = 1


@inner
def _find_in_bounds(s: Any, thread: int, job: Any, counter: int) -> None:
    """Find the best outputs of all tokens among what their bounds leave.

    It goes group by group: where one may hold the best of several tokens, its weights are read
    once, and those tokens are computed together.
    """
    best, reached = s.search[5][thread], s.search[2]
    for token in range(s.sizes[Size.WANTED]):
        bar = reached[token, 0, 0]
        for other in range(1, s.sizes[Size.THREADS]):
            bar = max(bar, reached[token, other, 0])
        best[token, 1] = bar
    undecided = s.search[12][thread]
    first, last = next_groups(s, thread, counter, SEARCHED_GROUPS)
    while first < last:
        _mark_undecided(s.search[0], best, s.sizes[Size.WANTED], first, last, undecided)
        for group in range(first, last):
            if undecided[group - first] != 0:  # few are
                _find_in_group(s, thread, job, group)
        first, last = next_groups(s, thread, counter, SEARCHED_GROUPS)


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
            job[Job.CODES], job[Job.SCALES], job[Job.STRIDE], token, blocks,
            address_of(own_terms[token]),
        )  # fmt: skip
    job[Job.OUTLIERS] = address_of(s.search[10][thread])
    job[Job.OUTLIER_COUNT] = 0
    if n_wanted > 1:
        job[Job.OUTLIER_COUNT] = OUTLIERS
        find_outliers(s, thread, job)
    _bound_all(s, thread, job, tile, counter)
    wait_for_all(address_of(s.barrier), threads)
    _find_in_bounds(s, thread, job, counter + 1)
    job[Job.SCRATCH] = tile
    wait_for_all(address_of(s.barrier), threads)
