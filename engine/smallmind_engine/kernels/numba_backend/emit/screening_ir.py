"""Upper bounds of a matrix's outputs, from the upper halves of its codes; see ``screening``.

With codes c = 16 h + l (upper and lower half), reading h gives each output but for
``e = sum f s (l - 7.5) q`` (f, s the factors of weights and inputs, q the input's codes). If the
lower halves are as good as independent of the input, e has the variance
``sum f^2 s^2 q^2 (16^2 - 1) / 12``, and since uniform numbers are strictly sub-Gaussian,
``|e| > z sigma`` has a probability below ``2 exp(-z^2 / 2)``, 5e-11 for z = 7 (Arbel, Marchal and
Nguyen 2020, ESAIM: Probability and Statistics 24).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir

from smallmind_engine.kernels.numba_backend.emit.decode_ir import (
    VECTOR_BYTES,
    high_bytes,
    load_halves,
    low_bytes,
    moved_bits,
    scale_bytes,
)
from smallmind_engine.kernels.numba_backend.emit.dot import dots
from smallmind_engine.kernels.numba_backend.emit.input_scales import load_scale
from smallmind_engine.kernels.numba_backend.emit.matmul import (
    LANE_BYTES,
    TOKENS_AT_ONCE,
    ask_ahead,
    blocks_ahead,
    quads_at,
)
from smallmind_engine.kernels.numba_backend.emit.outliers import VARIANCE
from smallmind_engine.kernels.numba_backend.emit.rows_ir import BLOCK
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
    kernel_of,
    number,
    zeros,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import (
    OUTLIERS,
    TERM_BYTES,
    InputScale,
    Job,
    Matrix,
    Outlier,
    Term,
)
from smallmind_engine.kernels.packing import SPLIT_Q8_0

SURE: Final = 7.0
"""Standard deviations between an output and its bounds."""

_UPPER: Final = 16.0
_MIDDLE: Final = 7.5
_OFFSET: Final = _MIDDLE - SPLIT_Q8_0.zero
_HIGHEST_NIBBLE: Final = 15
_ROUNDING: Final = 1e-5
_LOW_BYTES: Final = low_bytes(SPLIT_Q8_0)
_HIGH_BYTES: Final = high_bytes(SPLIT_Q8_0)
_SCALE_BYTES: Final = scale_bytes(SPLIT_Q8_0)

# What the function leaves in the job's scratch memory, 16 floats each.
ESTIMATE, DEVIATION = 0, 1


def _terms(
    code: Code, codes: Value, scales: Value, stride: Value, token: Value, blocks: Value,
    out: Value,
) -> None:  # fmt: skip
    bytes_32, ints_32 = ir.VectorType(BYTES.element, BLOCK), ir.VectorType(I32, BLOCK)
    kind = ir.FunctionType(I32, [ints_32])
    with code.loop(0, blocks) as block:
        at = code.b.add(code.times(block, stride), token)
        loaded = code.load(bytes_32, code.address(codes, code.times(at, BLOCK)), BLOCK)
        wide = code.b.sext(loaded, ints_32)
        squares = code.external(kind, "llvm.vector.reduce.add.v32i32", code.b.mul(wide, wide))
        factor = load_scale(code, scales, at, InputScale.FACTOR)
        total = load_scale(code, scales, at, InputScale.SUM)
        scaled = code.b.fmul(code.b.fmul(factor, factor), ir.Constant(F32, VARIANCE))
        terms = {
            Term.SCALE: code.b.fmul(factor, ir.Constant(F32, _UPPER)),
            Term.OFFSET: code.b.fmul(total, ir.Constant(F32, _OFFSET)),
            Term.VARIANCE: code.b.fmul(scaled, code.b.sitofp(squares, F32)),
        }
        for term, value in terms.items():
            code.store(value, code.address(out, code.times(block, TERM_BYTES), 4 * term), 4)


terms: Any = ir_function(_terms, 6)
"""``(codes, scales, stride, token, blocks, out)``: by block, what a token's input
contributes for a weight factor of 1, see ``records.Term``."""


class _Screen:
    """Emits bounds for one tier.

    Args:
        code: where instructions go.
        tier: which instructions.
        matrix: address of a ``Matrix`` record.
        job: address of a ``Job`` record.
    """

    def __init__(self, code: Code, tier: IsaTier, matrix: Value, job: Value) -> None:
        self.code, self.tier = code, tier
        fields, self.job = Fields(code, matrix), Fields(code, job)
        self.blocks = code.b.udiv(fields[Matrix.COLUMNS], number(BLOCK))
        self.rows = fields[Matrix.ROWS]
        self._low, self._high = fields[Matrix.LOW], fields[Matrix.HIGH]
        self._scales = fields[Matrix.SCALES]

    def weights(self, at: Value) -> tuple[list[Value], Value]:
        """The upper halves of a block's codes, and the factors of its rows."""
        code = self.code
        scales = code.address(self._scales, code.times(at, _SCALE_BYTES))
        vectors = _nibbles(code, code.address(self._high, code.times(at, _HIGH_BYTES)))
        return vectors, load_halves(code, self.tier, scales, _SCALE_BYTES)

    def ask_ahead(self, at: Value, tokens: int) -> None:
        """Ask for the block that is some further on, as ``matmul`` does."""
        planes = ((self._high, _HIGH_BYTES), (self._scales, _SCALE_BYTES))
        ask_ahead(self.code, planes, at, blocks_ahead(tokens))

    def add(
        self,
        weights: tuple[list[Value], Value],
        index: Value,
        tokens: Sequence[Value],
        sums: Sequence[tuple[Value, Value]],
    ) -> list[tuple[Value, Value]]:
        """Estimates and variances of some tokens, with a block's share added."""
        code, b = self.code, self.code.b
        vectors, factor = weights
        places = [b.add(code.times(index, self.job[Job.STRIDE]), token) for token in tokens]
        quads = [quads_at(code, self.job, place) for place in places]
        products = dots(code, self.tier, vectors, quads, _HIGHEST_NIBBLE)
        squared = b.fmul(factor, factor)
        added = []
        for token, product, (estimate, variance) in zip(tokens, products, sums, strict=True):
            base = code.address(self._terms_of(token), code.times(index, TERM_BYTES))
            scale, offset, energy = (
                code.splat(FLOATS, code.load(F32, code.address(base, 4 * term), 4)) for term in Term
            )
            inner = code.fma(b.sitofp(product, FLOATS), scale, offset)
            added.append((code.fma(factor, inner, estimate), code.fma(squared, energy, variance)))
        return added

    def ask_for_outliers(self, group: Value) -> None:
        """Ask for what ``outlier`` will read of the next group."""
        code = self.code
        begin = code.times(code.b.mul(code.address(group, 1), self.blocks), _LOW_BYTES)
        for index in range(OUTLIERS):
            place = self._outlier(number(index))[Outlier.PLACE]
            code.prefetch(code.address(self._low, begin, place))

    def outlier(self, group: Value, index: Value) -> Value:
        """What an outlier's lower halves add to a group's outputs for an input of 1."""
        code, b = self.code, self.code.b
        fields = self._outlier(index)
        first = b.mul(group, self.blocks)
        low = code.address(self._low, code.times(first, _LOW_BYTES), fields[Outlier.PLACE])
        shift = code.splat(INTS, b.trunc(fields[Outlier.SHIFT], I32))
        halves = b.and_(b.lshr(code.load(INTS, low, VECTOR_BYTES), shift), every(INTS, 15))
        block = b.udiv(fields[Outlier.INPUT], number(BLOCK))
        scales = code.times(b.add(first, block), _SCALE_BYTES)
        factor = load_halves(code, self.tier, code.address(self._scales, scales), _SCALE_BYTES)
        return b.fmul(factor, b.fadd(b.sitofp(halves, FLOATS), every(FLOATS, -_MIDDLE)))

    def value(self, token: Value, index: Value) -> Value:
        """A token's input that is an outlier, for all rows."""
        code = self.code
        values = code.address(self._terms_of(token), code.times(self.blocks, TERM_BYTES))
        return code.splat(FLOATS, code.load(F32, code.address(values, code.times(index, 4)), 4))

    def _outlier(self, index: Value) -> Fields:
        place = self.code.times(index, 8 * len(Outlier))
        return Fields(self.code, self.code.address(self.job[Job.OUTLIERS], place))

    def _terms_of(self, token: Value) -> Value:
        code = self.code
        row = code.b.mul(token, self.job[Job.TERM_STRIDE])
        return code.address(self.job[Job.TERMS], row)

    def put(self, group: Value, token: Value, estimate: Value, variance: Value) -> Value:
        """Write the upper bound of a group's outputs; answers their deviations."""
        code, b = self.code, self.code.b
        rounding = b.fmul(code.unary("fabs", estimate), every(FLOATS, _ROUNDING))
        deviation = b.fadd(code.unary("sqrt", variance), rounding)
        margin = b.fmul(deviation, every(FLOATS, SURE))
        lanes = ir.Constant(INTS, list(range(LANES)))
        left = b.trunc(b.sub(self.rows, code.times(group, LANES)), I32)
        there = b.icmp_signed("<", lanes, code.splat(INTS, left))
        nothing = every(FLOATS, float("-inf"))
        most = b.select(there, b.fadd(estimate, margin), nothing)
        bound = code.folded(most, code.larger)  # LLVM's own way goes lane by lane
        row = code.address(self.job[Job.OUT], b.mul(token, self.job[Job.OUT_STRIDE]))
        code.store(bound, code.address(row, code.times(group, 4)), 4)
        return deviation


def screen(tier: IsaTier) -> Callable[[int, int], None]:
    """The function ``(address of a Matrix, address of a Job)`` that bounds outputs of one token.

    It writes the upper bound of each group of 16 rows to OUT, and estimate and deviation of the
    last group's rows to the scratch memory.
    """

    def emit(code: Code, matrix: Value, job: Value) -> None:
        work = _Screen(code, tier, matrix, job)
        token, scratch = work.job[Job.TOKEN_BEGIN], work.job[Job.SCRATCH]
        with code.loop(work.job[Job.GROUP_BEGIN], work.job[Job.GROUP_END]) as group:
            slots = [code.variable(zeros(FLOATS)) for _ in (ESTIMATE, DEVIATION)]
            with code.loop(0, work.blocks) as index:
                at = code.b.add(code.b.mul(group, work.blocks), index)
                work.ask_ahead(at, 1)
                before = (code.b.load(slots[0]), code.b.load(slots[1]))
                (sums,) = work.add(work.weights(at), index, [token], [before])
                for slot, value in zip(slots, sums, strict=True):
                    code.b.store(value, slot)
            with code.loop(0, work.job[Job.OUTLIER_COUNT]) as index:
                more = code.fma(
                    work.outlier(group, index), work.value(token, index), code.b.load(slots[0])
                )
                code.b.store(more, slots[0])
            estimate = code.b.load(slots[0])
            deviation = work.put(group, token, estimate, code.b.load(slots[1]))
            for part, vector in ((ESTIMATE, estimate), (DEVIATION, deviation)):
                code.store(vector, code.address(scratch, part * LANE_BYTES), LANE_BYTES)

    return kernel_of(emit)


def screen_several(tier: IsaTier) -> Callable[[int, int], None]:
    """The same for several tokens, but for what ``screen`` writes to the scratch memory.

    The weights of a block stay where they are while tokens pass by, whose sums are kept in the
    scratch memory, as in ``matmul``. It reads inputs of up to three tokens behind the last one.
    """

    def emit(code: Code, matrix: Value, job: Value) -> None:
        work = _Screen(code, tier, matrix, job)
        end, scratch = work.job[Job.TOKEN_END], work.job[Job.SCRATCH]
        together = [number(index) for index in range(TOKENS_AT_ONCE)]
        numbers = [number(index) for index in range(OUTLIERS)]

        def kept(token: Value, part: int) -> Value:
            return code.address(scratch, code.times(token, 2 * LANE_BYTES), part * LANE_BYTES)

        def load(token: Value) -> tuple[Value, Value]:
            estimate, variance = (
                code.load(FLOATS, kept(token, part), LANE_BYTES) for part in range(2)
            )
            return estimate, variance

        def store(token: Value, sums: Sequence[Value]) -> None:
            for part, value in enumerate(sums):
                code.store(value, kept(token, part), LANE_BYTES)

        with code.loop(work.job[Job.GROUP_BEGIN], work.job[Job.GROUP_END]) as group:
            with code.loop(0, end, TOKENS_AT_ONCE) as first:
                for index in together:
                    store(code.b.add(first, index), (zeros(FLOATS), zeros(FLOATS)))
            work.ask_for_outliers(group)
            with code.loop(0, work.blocks) as index:
                at = code.b.add(code.b.mul(group, work.blocks), index)
                work.ask_ahead(at, TOKENS_AT_ONCE)
                weights = work.weights(at)
                with code.loop(0, end, TOKENS_AT_ONCE) as first:
                    tokens = [code.b.add(first, number_) for number_ in together]
                    added = work.add(weights, index, tokens, [load(token) for token in tokens])
                    for token, sums in zip(tokens, added, strict=True):
                        store(token, sums)
            outliers = [(number_, work.outlier(group, number_)) for number_ in numbers]
            with code.loop(0, end) as token:
                estimate, variance = load(token)
                for index, more in outliers:
                    estimate = code.fma(more, work.value(token, index), estimate)
                work.put(group, token, estimate, variance)

    return kernel_of(emit)


def _nibbles(code: Code, address: Value) -> list[Value]:
    answer = []
    for index in range(4):
        vector = code.load(BYTES, code.address(address, VECTOR_BYTES * index), VECTOR_BYTES)
        answer += [moved_bits(code, vector, 4, at, 0) for at in (0, 4)]
    return answer
