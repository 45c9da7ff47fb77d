"""Finding the largest outputs of a matrix without reading all of its bits.

The output matrix is often the largest of a model, and a greedy choice needs one row of it. With
codes c = 16 h + l (upper and lower half), reading h gives each output but for
``e = sum f s (l - 7.5) q`` (f, s the factors of weights and inputs, q the input's codes). If the
lower halves are as good as independent of the input, e has the variance
``sum f^2 s^2 q^2 (16^2 - 1) / 12``, and since uniform numbers are strictly sub-Gaussian,
``|e| > z sigma`` has a probability below ``2 exp(-z^2 / 2)``, 5e-11 for z = 7 (Arbel, Marchal and
Nguyen 2020, ESAIM: Probability and Statistics 24).
The likeliest group of each thread is computed in full; rows whose upper bound is below the best
of those are out; the few others are computed in full, too. These are a sample: if one of them is
further off than the model allows, the answer is dismissed, and the caller computes everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.decode_ir import (
    QUADS,
    VECTOR_BYTES,
    load_halves,
    moved_bits,
)
from smallmind_engine.kernels.numba_backend.emit.dot import dot
from smallmind_engine.kernels.numba_backend.emit.products import call_function
from smallmind_engine.kernels.numba_backend.emit.step_parts import clear_doubts, next_groups
from smallmind_engine.kernels.numba_backend.emit.sync_ir import wait_for_all
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    BYTES,
    F32,
    FLOATS,
    I32,
    INTS,
    LANES,
    Code,
    Fields,
    Value,
    every,
    ir_function,
    number,
    zeros,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import (
    Function,
    Job,
    Matrix,
    Size,
)

SURE: Final = 7.0
"""Standard deviations between an output and its bounds."""

PLAUSIBLE: Final = 6.0
"""An output further off than this shows that the model of the error is wrong here."""

_BLOCK: Final = 32
_GROUPS_AT_ONCE: Final = 64
_MIDDLE: Final = 7.5
_VARIANCE: Final = 255.0 / 12.0
_HIGHEST_NIBBLE: Final = 15
_ROUNDING: Final = 1e-5
_LANE_BYTES: Final = 64
_NONE: Final = np.float32(-np.inf)

# What the function leaves in the job's scratch memory, 16 floats each.
ESTIMATE, DEVIATION = 0, 1


def _energies(
    code: Code, codes: Value, factors: Value, stride: Value, token: Value, blocks: Value, out: Value
) -> None:
    bytes_32, ints_32 = ir.VectorType(BYTES.element, _BLOCK), ir.VectorType(I32, _BLOCK)
    kind = ir.FunctionType(I32, [ints_32])
    with code.loop(0, blocks) as block:
        at = code.b.add(code.times(block, stride), token)
        loaded = code.load(bytes_32, code.address(codes, code.times(at, _BLOCK)), _BLOCK)
        wide = code.b.sext(loaded, ints_32)
        squares = code.external(kind, "llvm.vector.reduce.add.v32i32", code.b.mul(wide, wide))
        factor = code.load(F32, code.address(factors, code.times(at, 4)), 4)
        scaled = code.b.fmul(code.b.fmul(factor, factor), ir.Constant(F32, _VARIANCE))
        energy = code.b.fmul(scaled, code.b.sitofp(squares, F32))
        code.store(energy, code.address(out, code.times(block, 4)), 4)


energies: Any = ir_function(_energies, 6)
"""``(codes, factors, stride, token, blocks, out)``: by block, what the lower halves of the codes
can add to the variance of an output, for a weight factor of 1."""


def screen(tier: IsaTier, zero: int) -> Callable[[int, int], None]:
    """The function ``(address of a Matrix, address of a Job)`` that bounds outputs of one token.

    It writes the upper bound of each group of 16 rows to OUT, and estimate and deviation of the
    last group's rows to the scratch memory.
    """

    def emit(code: Code, matrix: Value, job_address: Value) -> None:
        b = code.b
        fields, job = Fields(code, matrix), Fields(code, job_address)
        blocks = b.udiv(fields[Matrix.COLUMNS], number(_BLOCK))
        high, scales, rows = fields[Matrix.HIGH], fields[Matrix.SCALES], fields[Matrix.ROWS]
        scratch, token, stride = job[Job.SCRATCH], job[Job.TOKEN_BEGIN], job[Job.STRIDE]
        with code.loop(job[Job.GROUP_BEGIN], job[Job.GROUP_END]) as group:
            total = code.variable(zeros(FLOATS))
            variance = code.variable(zeros(FLOATS))
            with code.loop(0, blocks) as index:
                at = b.add(b.mul(group, blocks), index)
                vectors = _nibbles(code, code.address(high, code.times(at, 4 * VECTOR_BYTES)))
                factor = load_halves(
                    code, tier, code.address(scales, code.times(at, 2 * LANES)), 2 * LANES
                )
                place = b.add(code.times(index, stride), token)
                base = code.address(job[Job.CODES], code.times(place, _BLOCK))
                quads = [code.load(I32, code.address(base, 4 * q), 4) for q in range(QUADS)]
                products = dot(code, tier, vectors, quads, _HIGHEST_NIBBLE)
                input_factor = code.load(
                    F32, code.address(job[Job.FACTORS], code.times(place, 4)), 4
                )
                inputs = code.load(F32, code.address(job[Job.SUMS], code.times(place, 4)), 4)
                energy = code.load(F32, code.address(job[Job.ENERGIES], code.times(index, 4)), 4)
                scaled = b.fmul(input_factor, ir.Constant(F32, 16.0))
                value = code.fma(
                    b.sitofp(products, FLOATS),
                    b.fmul(factor, code.splat(FLOATS, scaled)),
                    b.load(total),
                )
                offset = b.fmul(inputs, ir.Constant(F32, _MIDDLE - zero))
                b.store(code.fma(factor, code.splat(FLOATS, offset), value), total)
                spread = code.fma(
                    b.fmul(factor, factor), code.splat(FLOATS, energy), b.load(variance)
                )
                b.store(spread, variance)
            estimate = b.load(total)
            rounding = b.fmul(code.unary("fabs", estimate), every(FLOATS, _ROUNDING))
            deviation = b.fadd(code.unary("sqrt", b.load(variance)), rounding)
            margin = b.fmul(deviation, every(FLOATS, SURE))
            lanes = ir.Constant(INTS, list(range(LANES)))
            left = b.trunc(b.sub(rows, code.times(group, LANES)), I32)
            there = b.icmp_signed("<", lanes, code.splat(INTS, left))
            nothing = every(FLOATS, float("-inf"))
            most = b.select(there, b.fadd(estimate, margin), nothing)
            for part, vector in ((ESTIMATE, estimate), (DEVIATION, deviation)):
                code.store(vector, code.address(scratch, part * _LANE_BYTES), _LANE_BYTES)
            kind = ir.FunctionType(F32, [FLOATS])
            bound = code.external(kind, "llvm.vector.reduce.fmax.v16f32", most)
            code.store(bound, code.address(job[Job.OUT], code.times(group, 4)), 4)

    body: Any = ir_function(emit, 2)

    def kernel(matrix: int, job: int) -> None:
        body(matrix, job)

    return kernel


def _nibbles(code: Code, address: Value) -> list[Value]:
    answer = []
    for index in range(4):
        vector = code.load(BYTES, code.address(address, VECTOR_BYTES * index), VECTOR_BYTES)
        answer += [moved_bits(code, vector, 4, at, 0) for at in (0, 4)]
    return answer


@inner
def _best_of_group(s: Any, thread: int, job: Any, token: int, group: Any) -> tuple[Any, Any]:
    """Compute 16 outputs in full: the best, and its row."""
    _, _, _, scratches, exacts, _, _, doubts, _ = s.search
    scratch, exact = scratches[thread], exacts[thread]
    matrix = s.matrices[s.sizes[Size.OUTPUT]]
    job[Job.GROUP_BEGIN] = group
    job[Job.GROUP_END] = group + 1
    job[Job.OUT] = address_of(s.search[0][token])
    call_function(s.functions[Function.SCREEN], address_of(matrix), address_of(job))
    # So that the outputs of this group and token are the 16 of ``exact``.
    job[Job.OUT] = address_of(exact) - token * job[Job.OUT_STRIDE] - group * _LANE_BYTES
    call_function(matrix[Matrix.KERNEL], address_of(matrix), address_of(job))
    doubts[thread, 1] += 1
    best, row = _NONE, np.int64(-1)
    for lane in range(min(LANES, matrix[Matrix.ROWS] - group * LANES)):
        value = exact[lane]
        off = abs(value - scratch[ESTIMATE, lane])
        if not off <= PLAUSIBLE * scratch[DEVIATION, lane]:
            doubts[thread, 0] = 1
        if value > best:
            best, row = value, np.int64(group * LANES + lane)
    return best, row


@inner
def _begin_token(s: Any, thread: int, job: Any, token: int) -> None:
    """Point the job at a token, and find out how uncertain its estimates will be."""
    job[Job.TOKEN_BEGIN] = token
    job[Job.TOKEN_END] = token + 1
    job[Job.ENERGIES] = address_of(s.search[1][thread])
    blocks = s.matrices[s.sizes[Size.OUTPUT], Matrix.COLUMNS] // _BLOCK
    energies(job[Job.CODES], job[Job.FACTORS], job[Job.STRIDE], token, blocks, job[Job.ENERGIES])


@inner
def _bound_all(s: Any, thread: int, job: Any, token: int, counter: int) -> None:
    """Bound the outputs of a token, and compute the group in full that is likeliest the best."""
    bounds = s.search[0][token]
    likeliest, highest = np.int64(-1), _NONE
    first, last = next_groups(s, counter, _GROUPS_AT_ONCE)
    while first < last:
        job[Job.GROUP_BEGIN] = first
        job[Job.GROUP_END] = last
        job[Job.OUT] = address_of(bounds)
        matrix = s.matrices[s.sizes[Size.OUTPUT]]
        call_function(s.functions[Function.SCREEN], address_of(matrix), address_of(job))
        for group in range(first, last):
            if bounds[group] > highest:
                highest, likeliest = bounds[group], np.int64(group)
        first, last = next_groups(s, counter, _GROUPS_AT_ONCE)
    reached = _NONE
    if likeliest >= 0:
        reached, _ = _best_of_group(s, thread, job, token, likeliest)
    s.search[2][token, thread, 0] = reached


@inner
def _find_in_bounds(s: Any, thread: int, job: Any, token: int, counter: int) -> None:
    """Compute the groups in full that may hold the best output of a token."""
    bounds, reached = s.search[0][token], s.search[2][token]
    bar = reached[0, 0]
    for other in range(1, s.sizes[Size.THREADS]):
        bar = max(bar, reached[other, 0])
    best, best_row = _NONE, np.int64(-1)
    first, last = next_groups(s, counter, _GROUPS_AT_ONCE)
    while first < last:
        for group in range(first, last):
            if bounds[group] >= bar:
                value, row = _best_of_group(s, thread, job, token, group)
                if value > best or (value == best and row < best_row):
                    best, best_row = value, row
        first, last = next_groups(s, counter, _GROUPS_AT_ONCE)
    s.search[5][thread, token, 0] = best
    s.search[6][thread, token, 0] = best_row


@inner
def find_best(s: Any, thread: int, job: Any, counter: int) -> None:
    """A thread's part of finding the best output for each of a few tokens.

    Args:
        s: the step; ``s.search`` receives the results, see ``buffers.SearchBuffers``.
        thread: which one, from 0.
        job: the thread's record, with the inputs filled in.
        counter: the first of two for each token.
    """
    n_wanted, threads = s.sizes[Size.WANTED], s.sizes[Size.THREADS]
    tile = job[Job.SCRATCH]
    job[Job.SCRATCH] = address_of(s.search[3][thread])
    clear_doubts(s, thread)
    for token in range(n_wanted):
        _begin_token(s, thread, job, token)
        _bound_all(s, thread, job, token, counter + 2 * token)
    wait_for_all(address_of(s.barrier), threads)
    for token in range(n_wanted):
        _begin_token(s, thread, job, token)
        _find_in_bounds(s, thread, job, token, counter + 2 * token + 1)
    job[Job.SCRATCH] = tile
    wait_for_all(address_of(s.barrier), threads)
