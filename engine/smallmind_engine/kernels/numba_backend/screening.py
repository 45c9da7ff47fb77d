"""Finding the largest outputs of a matrix without reading all of its bits.

The output matrix is often the largest of a model, and a greedy choice needs one row of it. With
codes c = 16 h + l (upper and lower half), reading h gives each output but for
``e = sum f s (l - 7.5) q`` (f, s the factors of weights and inputs, q the input's codes). If the
lower halves are as good as independent of the input, e has the variance
``sum f^2 s^2 q^2 (16^2 - 1) / 12``, and since uniform numbers are strictly sub-Gaussian,
``|e| > z sigma`` has a probability below ``2 exp(-z^2 / 2)``: 5e-11 for z = 7 (Arbel, Marchal &
Nguyen 2020, ESAIM: Probability and Statistics 24).
The likeliest group of each thread is computed in full; rows whose upper bound is below the best
of those are out; the few others are computed in full, too. These are a sample, too: if one of them is further off than the model allows, the answer is
dismissed, and the caller computes everything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit

from smallmind_engine.kernels.numba_backend.addresses import address_of
from smallmind_engine.kernels.numba_backend.decode_ir import (
    QUADS,
    VECTOR_BYTES,
    load_halves,
)
from smallmind_engine.kernels.numba_backend.dot import dot
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.products import call_function
from smallmind_engine.kernels.numba_backend.records import (
    COUNTER_WORDS,
    Function,
    Job,
    Matrix,
    Size,
)
from smallmind_engine.kernels.numba_backend.sync_ir import atomic_add, wait_for_all
from smallmind_engine.kernels.numba_backend.vector_ir import (
    BYTES,
    F32,
    FLOATS,
    I16,
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

    It writes the upper bound of each group of 16 rows to OUT, and estimate and deviation of the last
    group's rows to the scratch memory.
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
    words = ir.VectorType(I16, 2 * LANES)
    low = every(BYTES, _HIGHEST_NIBBLE)
    answer = []
    for index in range(4):
        vector = code.load(BYTES, code.address(address, VECTOR_BYTES * index), VECTOR_BYTES)
        shifted = code.bits(code.b.lshr(code.bits(vector, words), every(words, 4)), BYTES)
        answer += [code.b.and_(vector, low), code.b.and_(shifted, low)]
    return answer


@njit(nogil=True)
def _best_of_group(
    matrix: Any, functions: Any, job: Any, token: int, group: int, bounds: Any, scratch: Any,
    exact: Any,
) -> tuple[float, int, int]:  # fmt: skip
    """Compute 16 outputs in full: the best, its row, and 1 when one was further off than plausible."""
    record, own = address_of(matrix), address_of(job)
    job[Job.GROUP_BEGIN] = group
    job[Job.GROUP_END] = group + 1
    job[Job.OUT] = address_of(bounds[token])
    call_function(functions[Function.SCREEN], record, own)
    # So that the outputs of this group and token are the 16 of ``exact``.
    job[Job.OUT] = address_of(exact) - token * job[Job.OUT_STRIDE] - group * _LANE_BYTES
    call_function(matrix[Matrix.KERNEL], record, own)
    best, row, doubt = _NONE, np.int64(-1), np.int64(0)
    for lane in range(min(LANES, matrix[Matrix.ROWS] - group * LANES)):
        value = exact[lane]
        off = abs(value - scratch[ESTIMATE, lane])
        if not off <= PLAUSIBLE * scratch[DEVIATION, lane]:
            doubt = np.int64(1)
        if value > best:
            best, row = value, np.int64(group * LANES + lane)
    return best, row, doubt


@njit(nogil=True)
def find_best(
    thread: int, sizes: Any, matrix: Any, functions: Any, job: Any, search: Any, n_wanted: int,
    counters: Any, counter: int, meeting: int,
) -> None:  # fmt: skip
    """A thread's part of finding the best output for each of a few tokens.

    Args:
        thread: which one, from 0.
        sizes: see ``Size``.
        matrix: record of the output matrix.
        functions: see ``Function``.
        job: the thread's record, with the inputs filled in.
        search: the arrays of ``buffers.SearchBuffers``, in its order.
        n_wanted: tokens.
        counters: see ``product``.
        counter: the first of two for each token.
        meeting: address of the barrier.
    """
    bounds, energies_of, reached, scratches, exacts, best_logits, best_ids, doubts = search
    energy, scratch, exact = energies_of[thread], scratches[thread], exacts[thread]
    threads, groups = sizes[Size.THREADS], matrix[Matrix.GROUPS]
    blocks = matrix[Matrix.COLUMNS] // _BLOCK
    pieces = (groups + _GROUPS_AT_ONCE - 1) // _GROUPS_AT_ONCE
    tile = job[Job.SCRATCH]
    job[Job.SCRATCH] = address_of(scratch)
    job[Job.ENERGIES] = address_of(energy)
    doubts[thread, 0] = 0
    for token in range(n_wanted):
        job[Job.TOKEN_BEGIN] = token
        job[Job.TOKEN_END] = token + 1
        energies(
            job[Job.CODES], job[Job.FACTORS], job[Job.STRIDE], token, blocks, job[Job.ENERGIES]
        )
        taken = address_of(counters[(counter + 2 * token) * COUNTER_WORDS :])
        likeliest, highest = np.int64(-1), _NONE
        while True:
            piece = atomic_add(taken, 1)
            if piece >= pieces:
                break
            first, last = piece * _GROUPS_AT_ONCE, min(groups, (piece + 1) * _GROUPS_AT_ONCE)
            job[Job.GROUP_BEGIN] = first
            job[Job.GROUP_END] = last
            job[Job.OUT] = address_of(bounds[token])
            call_function(functions[Function.SCREEN], address_of(matrix), address_of(job))
            for group in range(first, last):
                if bounds[token, group] > highest:
                    highest, likeliest = bounds[token, group], np.int64(group)
        reached[token, thread, 0] = _NONE
        if likeliest >= 0:
            best, _, doubt = _best_of_group(
                matrix, functions, job, token, likeliest, bounds, scratch, exact
            )
            reached[token, thread, 0] = best
            doubts[thread, 0] |= doubt
    wait_for_all(meeting, threads)
    for token in range(n_wanted):
        bar = reached[token, 0, 0]
        for other in range(1, threads):
            bar = max(bar, reached[token, other, 0])
        best, best_row = _NONE, np.int64(-1)
        job[Job.TOKEN_BEGIN] = token
        job[Job.TOKEN_END] = token + 1
        energies(
            job[Job.CODES], job[Job.FACTORS], job[Job.STRIDE], token, blocks, job[Job.ENERGIES]
        )
        taken = address_of(counters[(counter + 2 * token + 1) * COUNTER_WORDS :])
        while True:
            piece = atomic_add(taken, 1)
            if piece >= pieces:
                break
            last = min(groups, (piece + 1) * _GROUPS_AT_ONCE)
            for group in range(piece * _GROUPS_AT_ONCE, last):
                if not bounds[token, group] >= bar:
                    continue
                value, row, doubt = _best_of_group(
                    matrix, functions, job, token, group, bounds, scratch, exact
                )
                doubts[thread, 0] |= doubt
                if value > best or (value == best and row < best_row):
                    best, best_row = value, row
        best_logits[thread, token, 0] = best
        best_ids[thread, token, 0] = best_row
    job[Job.SCRATCH] = tile
    wait_for_all(meeting, threads)
