"""Attention of a few query rows over the pages of a KV cache, page by page.

A page holds 64 positions. Keys lie ``[4][D][16]``: 16 neighbouring positions side by side, so that
lanes are positions and scores need no sums across lanes. Values lie ``[64][E]``, E padded to lanes.

The maximum and the sum of a row are corrected as pages come (Milakov & Gimelshein 2018,
arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135), so memory does not grow with the context. A
row's result does not depend on the rows beside it: pages that it does not see change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from llvmlite import ir

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.emit.attention_sums import (
    VECTORS,
    HalfSums,
    Sums,
    fits,
)
from smallmind_engine.kernels.numba_backend.emit.decode_ir import load_halves
from smallmind_engine.kernels.numba_backend.emit.math_ir import tanh
from smallmind_engine.kernels.numba_backend.emit.softmax_ir import softmax
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
_LINE_BYTES: Final = 64

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


class _Add(Protocol):
    def __call__(self, index: Value, *, asks: bool) -> None: ...


class _Attention:
    """Emits the attention of ``rows`` query rows over a cache of type ``kind``."""

    def __init__(self, code: Code, tier: IsaTier, kind: KVType, rows: int, job: Value) -> None:
        self.code, self.tier, self.kind, self.rows = code, tier, kind, rows
        self.size = ITEM_BYTES[kind]
        self.halves = fits(tier, kind, rows)
        self.at_once = VECTORS if self.halves else _at_once(tier, rows)
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
        first_seen, whole_until, last = self._seen()
        pages = self.job[Attend.PAGES]
        with code.loop(self.job[Attend.PAGE_BEGIN], self.job[Attend.PAGE_END]) as page:
            base = code.load(I64, code.address(pages, code.times(page, 8)), 8)
            first = code.times(page, PAGE_TOKENS)
            count = self._between(0, code.b.sub(code.address(last, 1), first), PAGE_TOKENS)
            subs = code.b.udiv(code.address(count, LANES - 1), number(LANES))
            self._scores(base, subs)
            self._cap_scores(subs)
            whole = code.b.and_(
                code.b.icmp_signed(">=", first, first_seen),
                code.b.icmp_signed("<", code.address(first, PAGE_TOKENS - 1), whole_until),
            )
            with code.b.if_then(code.b.not_(whole)):
                self._hide_unseen(first, subs)
            corrections = softmax(code, self.weights, self.highest, self.total, subs)
            self._mix(base, count, corrections, self._next_keys(pages, page))
        for index, row in enumerate(self.row):
            self._put(index, row)

    def _seen(self) -> tuple[Value, Value, Value]:
        """What all rows see, from a position up to another, and the last that any row sees.

        Behind that there may be anything.
        """
        b = self.code.b

        def most(field: QueryRow, order: str) -> Value:
            found, *others = (row[field] for row in self.row)
            for other in others:
                found = b.select(b.icmp_signed(order, other, found), other, found)
            return found

        until = b.add(most(QueryRow.LAST, "<"), number(1))
        return most(QueryRow.FIRST, ">"), until, most(QueryRow.LAST, ">")

    def _between(self, least: int, value: Value, most: int) -> Value:
        b = self.code.b
        low, high = number(least), number(most)
        value = b.select(b.icmp_signed("<", value, low), low, value)
        return b.select(b.icmp_signed(">", value, high), high, value)

    def _next_keys(self, pages: Value, page: Value) -> Value:
        """Where the next page's keys are; this one's on the last page."""
        b, following = self.code.b, self.code.address(page, 1)
        there = b.icmp_signed("<", following, self.job[Attend.PAGE_END])
        chosen = b.select(there, following, page)
        base = self.code.load(I64, self.code.address(pages, self.code.times(chosen, 8)), 8)
        return self.code.address(base, self.job[Attend.KEYS])

    # -- scores of a page -------------------------------------------------------------------------

    def _scores(self, page: Value, subs: Value) -> None:
        """Of ``subs`` times 16 positions; behind them nothing is read."""
        code = self.code
        whole = code.b.and_(subs, number(-self.at_once))
        for begin, end, count in ((number(0), whole, self.at_once), (whole, subs, 1)):
            # As loops, and not one behind the other: between two layers this code leaves the
            # caches, and the less of it there is the sooner it is back.
            with code.loop(begin, end, count) as sub:
                self._scores_of(page, sub, count)
            if self.at_once == 1:
                break

    def _scores_of(self, page: Value, first: Value, count: int) -> None:
        code = self.code
        keys = code.address(page, self.job[Attend.KEYS])
        values = code.address(page, self.job[Attend.VALUES])
        stride = code.times(self.key_size, LANES * self.size)
        subs = [code.address(first, index) for index in range(count)]
        bases = [code.address(keys, code.times(stride, sub)) for sub in subs]
        sums = self._sums([[zeros(FLOATS)] * count] * self.rows)

        def add(index: Value, *, asks: bool) -> None:
            size = LANES * self.size
            column = code.times(index, size)
            if asks or size >= _LINE_BYTES:  # for the values, which are next
                for base in bases:
                    place = code.b.sub(code.address(base, column), keys)
                    code.prefetch(code.address(values, place))
            places = [code.address(row[QueryRow.QUERY], code.times(index, 4)) for row in self.row]
            queries = [code.load(F32, place, 4) for place in places]
            sums.add(queries, [code.address(base, column) for base in bases])

        self._two_by_two(self.key_size, add)
        for offset, sub in enumerate(subs):
            at = code.times(sub, _LANE_BYTES)
            factor = None
            if self.kind is KVType.INT8:
                place = code.address(page, self.job[Attend.KEY_FACTORS], at)
                factor = code.load(FLOATS, place, _LANE_BYTES)
            for index, weights in enumerate(self.weights):
                score = sums.vectors(index)[offset]
                if factor is not None:
                    score = code.b.fmul(score, factor)
                code.store(score, code.address(weights, at), _LANE_BYTES)

    def _cap_scores(self, subs: Value) -> None:
        code, bits = self.code, self.job[Attend.CAP]
        with code.b.if_then(code.b.icmp_signed("!=", bits, number(0))):
            cap = code.splat(FLOATS, code.bits(code.b.trunc(bits, I32), F32))
            for weights in self.weights:
                with code.loop(0, subs) as sub:
                    place = code.address(weights, code.times(sub, _LANE_BYTES))
                    score = code.load(FLOATS, place, _LANE_BYTES)
                    capped = code.b.fmul(tanh(code, code.b.fdiv(score, cap)), cap)
                    code.store(capped, place, _LANE_BYTES)

    def _hide_unseen(self, first: Value, subs: Value) -> None:
        """Let scores be minus infinity where their rows do not look."""
        code = self.code
        with code.loop(0, subs) as sub:
            for index, weights in enumerate(self.weights):
                place = code.address(weights, code.times(sub, _LANE_BYTES))
                score = code.load(FLOATS, place, _LANE_BYTES)
                code.store(self._visible(index, score, first, sub), place, _LANE_BYTES)

    def _visible(self, index: int, score: Value, first: Value, sub: Value) -> Value:
        """Minus infinity where the row does not look."""
        code, row = self.code, self.row[index]
        begin = code.splat(INTS, code.b.trunc(code.times(sub, LANES), I32))
        lanes = code.b.add(begin, ir.Constant(INTS, list(range(LANES))))

        def relative(position: Value) -> Value:
            # Within 32 bits: positions are far below 2^31.
            return code.splat(INTS, code.b.trunc(code.b.sub(position, first), I32))

        late = code.b.icmp_signed(">", lanes, relative(row[QueryRow.LAST]))
        early = code.b.icmp_signed("<", lanes, relative(row[QueryRow.FIRST]))
        hidden = code.b.or_(late, early)
        return code.b.select(hidden, every(FLOATS, float("-inf")), score)

    # -- values of a page -------------------------------------------------------------------------

    def _mix(self, page: Value, count: Value, corrections: list[Value], ahead: Value) -> None:
        """Add the values of ``count`` positions."""
        code, b = self.code, self.code.b
        values = code.address(page, self.job[Attend.VALUES])
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
        with code.loop(0, number(_SUBS)) as sub:
            at = code.times(sub, _LANE_BYTES)
            factor = code.load(FLOATS, code.address(factors, at), _LANE_BYTES)
            for weights in self.weights:
                place = code.address(weights, at)
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
        places = [
            [code.address(mixed, code.times(e, 4), _LANE_BYTES * index) for index in range(vectors)]
            for mixed in self.mixed
        ]
        sums = self._sums(
            [
                [b.fmul(code.load(FLOATS, place, _LANE_BYTES), correction) for place in row]
                for row, correction in zip(places, corrections, strict=True)
            ]
        )
        stride = code.times(self.value_size, self.size)
        column = code.address(values, code.times(e, self.size))
        begun = code.address(ahead, code.times(e, PAGE_TOKENS * self.size))

        def add(index: Value, *, asks: bool) -> None:
            base = code.address(column, b.mul(index, stride))
            size = LANES * self.size * vectors
            for place in range(0, size, _LINE_BYTES):  # in the order in which they will be read
                if asks or size >= _LINE_BYTES:
                    code.prefetch(code.address(begun, code.times(index, size), place))
            at = [code.address(weights, code.times(index, 4)) for weights in self.weights]
            sums.add(
                [code.load(F32, place, 4) for place in at],
                [code.address(base, LANES * self.size * part) for part in range(vectors)],
            )

        self._two_by_two(count, add)
        for index, row in enumerate(places):
            for place, value in zip(row, sums.vectors(index), strict=True):
                code.store(value, place, _LANE_BYTES)

    def _two_by_two(self, count: Value, add: _Add) -> None:
        """Add ``count`` times; where a line is enough for two, every other time asks for memory."""
        code = self.code
        even = code.b.and_(count, number(-2))
        with code.loop(0, even, 2) as index:
            add(index, asks=True)
            add(code.address(index, 1), asks=False)
        with code.loop(even, count) as index:
            add(index, asks=True)

    def _sums(self, begin: list[list[Value]]) -> Sums | HalfSums:
        """Sums for each row, which begin with some vectors."""
        if self.halves and len(begin[0]) == VECTORS:
            return HalfSums(self.code, begin)
        return Sums(self.code, begin, self._load)

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
