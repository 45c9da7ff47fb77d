"""Attention of a few query rows over the pages of a KV cache, page by page.

A page holds 64 positions. Keys lie ``[4][D][16]``: 16 neighbouring positions side by side, so that
lanes are positions and scores need no sums across lanes. Values lie ``[64][E]``, E padded to lanes.

The maximum and the sum of a row are corrected as pages come (Milakov & Gimelshein 2018,
arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135), so memory does not grow with the context. A
row's result does not depend on the rows beside it: pages that it does not see change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llvmlite import ir

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.emit.decode_ir import load_halves
from smallmind_engine.kernels.numba_backend.emit.math_ir import exp, tanh
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    F32,
    FLOATS,
    I32,
    I64,
    INTS,
    LANES,
    SMALL_INTS,
    Code,
    Fields,
    Value,
    every,
    kernel_of,
    number,
    zeros,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import (
    ITEM_BYTES,
    PAGE_TOKENS,
    Attend,
    QueryRow,
)

_SUBS: Final = PAGE_TOKENS // LANES
_LANE_BYTES: Final = 64

_MOST_SUMS: Final = {
    IsaTier.AVX512_VNNI: 16,
    IsaTier.AVX_VNNI: 4,
    IsaTier.AVX2: 4,
    IsaTier.NEON_DOTPROD: 4,
    IsaTier.PORTABLE: 2,
}
"""Vectors of 16 floats that half of the registers hold; the other half is for what is added."""


def _at_once(tier: IsaTier, rows: int) -> int:
    """Vectors that each row sums up in registers: 1, 2 or 4."""
    room = _MOST_SUMS[tier] // rows
    return 4 if room >= 4 else max(room, 1)


class _Attention:
    """Emits the attention of ``rows`` query rows over a cache of type ``kind``."""

    def __init__(self, code: Code, tier: IsaTier, kind: KVType, rows: int, job: Value) -> None:
        self.code, self.tier, self.kind, self.rows = code, tier, kind, rows
        self.size = ITEM_BYTES[kind]
        self.at_once = _at_once(tier, rows)
        self.job = Fields(code, job)
        row_fields = len(QueryRow)
        self.row = [
            {field: self.job[Attend.ROWS + index * row_fields + field] for field in QueryRow}
            for index in range(rows)
        ]
        self.key_size, self.value_size = self.job[Attend.KEY_SIZE], self.job[Attend.VALUE_SIZE]
        scratch = self.job[Attend.SCRATCH]
        self.weights = [code.address(scratch, 4 * PAGE_TOKENS * index) for index in range(rows)]
        mixed = code.address(scratch, 4 * PAGE_TOKENS * rows)
        self.mixed = [
            code.address(mixed, code.times(self.value_size, 4 * index)) for index in range(rows)
        ]
        self.highest = [code.variable(ir.Constant(F32, float("-inf"))) for _ in range(rows)]
        self.total = [code.variable(ir.Constant(F32, 0.0)) for _ in range(rows)]

    def _load(self, address: Value) -> Value:
        """16 stored numbers as floats; factors of 8-bit ones come in elsewhere."""
        code = self.code
        if self.kind is KVType.F32:
            return code.load(FLOATS, address, _LANE_BYTES)
        if self.kind is KVType.F16:
            return load_halves(code, self.tier, address, 2 * LANES)
        return code.b.sitofp(code.load(SMALL_INTS, address, LANES), FLOATS)

    def emit(self) -> None:
        """The whole."""
        code = self.code
        for mixed in self.mixed:
            with code.loop(0, self.value_size, LANES) as index:
                code.store(zeros(FLOATS), code.address(mixed, code.times(index, 4)), _LANE_BYTES)
        last = self._last_seen()
        pages = self.job[Attend.PAGES]
        with code.loop(self.job[Attend.PAGE_BEGIN], self.job[Attend.PAGE_END]) as page:
            base = code.load(I64, code.address(pages, code.times(page, 8)), 8)
            first = code.times(page, PAGE_TOKENS)
            self._scores(base, first, last)
            corrections = [self._softmax(index) for index in range(self.rows)]
            self._mix(base, first, last, corrections, self._next_keys(pages, page))
        for index, row in enumerate(self.row):
            self._put(index, row)

    def _last_seen(self) -> Value:
        """The last position that any row sees; behind it there may be anything."""
        last, *others = (row[QueryRow.LAST] for row in self.row)
        for other in others:
            last = self.code.b.select(self.code.b.icmp_signed(">", other, last), other, last)
        return last

    def _next_keys(self, pages: Value, page: Value) -> Value:
        """Where the next page's keys are; this one's on the last page."""
        b, following = self.code.b, self.code.address(page, 1)
        there = b.icmp_signed("<", following, self.job[Attend.PAGE_END])
        chosen = b.select(there, following, page)
        base = self.code.load(I64, self.code.address(pages, self.code.times(chosen, 8)), 8)
        return self.code.address(base, self.job[Attend.KEYS])

    # -- scores of a page -------------------------------------------------------------------------

    def _scores(self, page: Value, first: Value, last: Value) -> None:
        """Of positions up to ``last``; behind it nothing is read."""
        code = self.code
        for begin in range(0, _SUBS, self.at_once):
            subs = range(begin, begin + self.at_once)
            seen = code.b.icmp_signed(">=", last, code.address(first, begin * LANES))
            with code.b.if_else(seen) as (some, none):
                with some:
                    self._scores_of(page, first, subs)
                with none:
                    for sub in subs:
                        for weights in self.weights:
                            place = code.address(weights, _LANE_BYTES * sub)
                            code.store(every(FLOATS, float("-inf")), place, _LANE_BYTES)

    def _scores_of(self, page: Value, first: Value, subs: range) -> None:
        code = self.code
        keys = code.address(page, self.job[Attend.KEYS])
        values = code.address(page, self.job[Attend.VALUES])
        slots = [[code.variable(zeros(FLOATS)) for _ in subs] for _ in range(self.rows)]
        bases = [
            code.address(keys, code.times(self.key_size, sub * LANES * self.size)) for sub in subs
        ]
        with code.loop(0, self.key_size) as d:
            column = code.times(d, LANES * self.size)
            vectors = [self._load(code.address(base, column)) for base in bases]
            for base in bases:  # the values are next
                place = code.b.sub(code.address(base, column), keys)
                code.prefetch(code.address(values, place))
            for row, sums in zip(self.row, slots, strict=True):
                place = code.address(row[QueryRow.QUERY], code.times(d, 4))
                q = code.splat(FLOATS, code.load(F32, place, 4))
                for slot, vector in zip(sums, vectors, strict=True):
                    code.b.store(code.fma(q, vector, code.b.load(slot)), slot)
        for offset, sub in enumerate(subs):
            factor = None
            if self.kind is KVType.INT8:
                place = code.address(page, self.job[Attend.KEY_FACTORS], _LANE_BYTES * sub)
                factor = code.load(FLOATS, place, _LANE_BYTES)
            for index in range(self.rows):
                score = code.b.load(slots[index][offset])
                if factor is not None:
                    score = code.b.fmul(score, factor)
                score = self._visible(index, self._capped(score), first, sub)
                place = code.address(self.weights[index], _LANE_BYTES * sub)
                code.store(score, place, _LANE_BYTES)

    def _capped(self, score: Value) -> Value:
        code = self.code
        bits = self.job[Attend.CAP]
        slot = code.variable(score)
        with code.b.if_then(code.b.icmp_signed("!=", bits, number(0))):
            cap = code.splat(FLOATS, code.bits(code.b.trunc(bits, I32), F32))
            squashed = tanh(code, code.b.fdiv(score, cap))
            code.b.store(code.b.fmul(squashed, cap), slot)
        return code.b.load(slot)

    def _visible(self, index: int, score: Value, first: Value, sub: int) -> Value:
        """Minus infinity where the row does not look."""
        code, row = self.code, self.row[index]
        lanes = ir.Constant(INTS, [sub * LANES + lane for lane in range(LANES)])

        def relative(position: Value) -> Value:
            # Within 32 bits: positions are far below 2^31.
            return code.splat(INTS, code.b.trunc(code.b.sub(position, first), I32))

        late = code.b.icmp_signed(">", lanes, relative(row[QueryRow.LAST]))
        early = code.b.icmp_signed("<", lanes, relative(row[QueryRow.FIRST]))
        hidden = code.b.or_(late, early)
        return code.b.select(hidden, every(FLOATS, float("-inf")), score)

    # -- softmax and values ---------------------------------------------------------------------

    def _softmax(self, index: int) -> Value:
        """Turn a page's scores into weights; answers what earlier sums are to be scaled by."""
        code, b = self.code, self.code.b
        places = [code.address(self.weights[index], _LANE_BYTES * sub) for sub in range(_SUBS)]
        scores = [code.load(FLOATS, place, _LANE_BYTES) for place in places]
        largest = scores[0]
        for score in scores[1:]:
            largest = code.larger(largest, score)
        before = b.load(self.highest[index])
        highest = code.larger(before, code.folded(largest, code.larger))
        nothing = b.fcmp_ordered("==", highest, ir.Constant(F32, float("-inf")))
        against = code.splat(FLOATS, b.select(nothing, ir.Constant(F32, 0.0), highest))
        total = None
        for place, score in zip(places, scores, strict=True):
            seen = b.fcmp_unordered(">", score, every(FLOATS, float("-inf")))
            weight = b.select(seen, exp(code, b.fsub(score, against)), zeros(FLOATS))
            total = weight if total is None else b.fadd(total, weight)
            code.store(weight, place, _LANE_BYTES)
        correction = exp(code, b.fsub(code.splat(FLOATS, before), against))
        scalar = b.extract_element(correction, ir.Constant(I32, 0))
        page_total = code.folded(total, b.fadd)
        b.store(b.fadd(b.fmul(b.load(self.total[index]), scalar), page_total), self.total[index])
        b.store(highest, self.highest[index])
        return correction

    def _mix(
        self, page: Value, first: Value, last: Value, corrections: list[Value], ahead: Value
    ) -> None:
        code, b = self.code, self.code.b
        values = code.address(page, self.job[Attend.VALUES])
        count = b.sub(b.add(last, number(1)), first)
        whole = number(PAGE_TOKENS)
        count = b.select(b.icmp_signed("<", count, whole), count, whole)
        if self.kind is KVType.INT8:
            self._scale_weights(page)
        wide = LANES * self.at_once
        rest = b.urem(self.value_size, number(wide))
        middle = b.sub(self.value_size, rest)
        for begin, end, vectors in (
            (number(0), middle, self.at_once),
            (middle, self.value_size, 1),
        ):
            with code.loop(begin, end, LANES * vectors) as e:
                self._mix_columns(values, e, vectors, count, corrections, ahead)

    def _scale_weights(self, page: Value) -> None:
        code = self.code
        factors = code.address(page, self.job[Attend.VALUE_FACTORS])
        for sub in range(_SUBS):
            factor = code.load(FLOATS, code.address(factors, _LANE_BYTES * sub), _LANE_BYTES)
            for weights in self.weights:
                place = code.address(weights, _LANE_BYTES * sub)
                scaled = code.b.fmul(code.load(FLOATS, place, _LANE_BYTES), factor)
                code.store(scaled, place, _LANE_BYTES)

    def _mix_columns(
        self,
        values: Value,
        e: Value,
        vectors: int,
        count: Value,
        corrections: list[Value],
        ahead: Value,
    ) -> None:
        code, b = self.code, self.code.b
        slots = []
        for mixed, correction in zip(self.mixed, corrections, strict=True):
            base = code.address(mixed, code.times(e, 4))
            for index in range(vectors):
                place = code.address(base, _LANE_BYTES * index)
                value = b.fmul(code.load(FLOATS, place, _LANE_BYTES), correction)
                slots.append((place, code.variable(value)))
        stride = code.times(self.value_size, self.size)
        column = code.address(values, code.times(e, self.size))
        begun = code.address(ahead, code.times(e, PAGE_TOKENS * self.size))
        with code.loop(0, count) as position:
            base = code.address(column, b.mul(position, stride))
            loaded = [
                self._load(code.address(base, LANES * self.size * index))
                for index in range(vectors)
            ]
            for index in range(vectors):  # in the order in which they will be read
                line = LANES * self.size * vectors
                place = code.address(begun, code.times(position, line), LANES * self.size * index)
                code.prefetch(place)
            for index, weights in enumerate(self.weights):
                place = code.address(weights, code.times(position, 4))
                weight = code.splat(FLOATS, code.load(F32, place, 4))
                for offset, vector in enumerate(loaded):
                    _, slot = slots[index * vectors + offset]
                    b.store(code.fma(weight, vector, b.load(slot)), slot)
        for place, slot in slots:
            code.store(b.load(slot), place, _LANE_BYTES)

    def _put(self, index: int, row: dict[QueryRow, Value]) -> None:
        code, b = self.code, self.code.b
        inverse = b.fdiv(ir.Constant(F32, 1.0), b.load(self.total[index]))
        size = row[QueryRow.OUT_SIZE]
        whole = b.sub(size, b.urem(size, number(LANES)))
        for begin, end, kind in ((number(0), whole, FLOATS), (whole, size, F32)):
            step, factor = (LANES, code.splat(FLOATS, inverse)) if kind == FLOATS else (1, inverse)
            with code.loop(begin, end, step) as e:
                at = code.times(e, 4)
                value = code.load(kind, code.address(self.mixed[index], at), 4)
                code.store(b.fmul(value, factor), code.address(row[QueryRow.OUT], at), 4)


def attention(tier: IsaTier, kind: KVType, rows: int) -> Callable[[int, int], None]:
    """The function ``(address of an Attend record, 0)`` for ``rows`` query rows.

    To be compiled by Numba.
    """

    def emit(code: Code, job: Value, _unused: Value) -> None:
        _Attention(code, tier, kind, rows, job).emit()

    return kernel_of(emit)
