"""Products of packed integer weights with quantised inputs: ``out = inputs @ weights.T``.

Each lane owns a row, so there are no sums across lanes, and every output is summed up in the
same order however many tokens there are: a token's result does not depend on its company.

Inputs are quantised to signed bytes by blocks of 32. With w = f * c + o for the weight's code c,
and x = s * q for the input's code q, a block adds ``f * s * sum(c * q) + o * (s * sum(q))``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from smallmind_engine.kernels.numba_backend.emit.decode_ir import (
    QUADS,
    Scales,
    codes,
    high_bytes,
    largest_code,
    low_bytes,
    scale_bytes,
    scales,
)
from smallmind_engine.kernels.numba_backend.emit.dot import dots
from smallmind_engine.kernels.numba_backend.emit.input_scales import load_scale
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    FLOATS,
    I32,
    I64,
    Code,
    Fields,
    Value,
    kernel_of,
    number,
    zeros,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import (
    InputScale,
    Job,
    Matrix,
)
from smallmind_engine.kernels.packing import PackedLayout

TOKENS_AT_ONCE: Final = 4
_BLOCK: Final = 32
LANE_BYTES: Final = 64
_SUPER_BLOCKS: Final = 8
BLOCKS_AHEAD: Final = 4
"""How far ahead weights are asked for: the work on several tokens would not wait for them itself,
and a block of 16 tokens takes about as long as memory does."""

BLOCKS_AHEAD_OF_ONE: Final = 6
"""The same for one token, whose block takes much less time than memory does."""


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """Weights of 16 rows and 32 inputs, in registers.

    Attributes:
        codes: 8 vectors of 64 unsigned bytes.
        scales: one, or one for each half of the inputs.
    """

    codes: list[Value]
    scales: list[Scales]


class PackedBlocks:
    """Takes blocks of a packed matrix apart.

    Args:
        code: where instructions go.
        tier: which instructions.
        layout: of the weights.
        matrix: address of a ``Matrix`` record.
    """

    def __init__(self, code: Code, tier: IsaTier, layout: PackedLayout, matrix: Value) -> None:
        self._code, self._tier, self._layout = code, tier, layout
        fields = Fields(code, matrix)
        self.count = code.b.udiv(fields[Matrix.COLUMNS], number(_BLOCK))
        self._planes = (
            (fields[Matrix.LOW], low_bytes(layout)),
            (fields[Matrix.HIGH], high_bytes(layout)),
            (fields[Matrix.SCALES], scale_bytes(layout)),
        )
        self._supers = fields[Matrix.SUPERS]

    def at(self, group: Value, index: Value) -> PackedBlock:
        """The weights of 16 rows in block ``index``."""
        code, layout = self._code, self._layout
        at = code.b.add(code.times(group, self.count), index)
        low, high, scale = (code.address(p, code.times(at, size)) for p, size in self._planes)
        super_block = code.b.udiv(at, number(_SUPER_BLOCKS))
        supers = code.address(self._supers, code.times(super_block, 64 if layout.has_min else 32))
        return PackedBlock(
            codes(code, self._tier, layout, low, high),
            scales(code, self._tier, layout, scale, supers),
        )

    def ask_ahead(self, group: Value, index: Value, count: int) -> None:
        """Ask for the block that is ``count`` further on; rows follow each other."""
        code = self._code
        ask_ahead(code, self._planes, code.address(code.times(group, self.count), index), count)


def blocks_ahead(tokens: int) -> int:
    """How far ahead to ask for weights when so many tokens are worked on together."""
    return BLOCKS_AHEAD if tokens > 1 else BLOCKS_AHEAD_OF_ONE


def ask_ahead(code: Code, planes: Sequence[tuple[Value, int]], at: Value, count: int) -> None:
    """Ask for the block that is ``count`` behind block ``at`` of some planes.

    Args:
        code: where instructions go.
        planes: address of each, and bytes of a block in it.
        at: the block that is at work.
        count: how far ahead.
    """
    later = code.address(at, count)
    for plane, size in planes:
        for line in range(0, size, LANE_BYTES):
            code.prefetch(code.address(plane, code.times(later, size), line))


def quads_at(code: Code, job: Fields, place: Value) -> list[Value]:
    """The codes of a token's block of inputs: 8 integers of four bytes."""
    base = code.address(job[Job.CODES], code.times(place, _BLOCK))
    return [code.load(I32, code.address(base, 4 * quad), 4) for quad in range(QUADS)]


class _Product:
    """Emits the product for one layout and tier.

    Args:
        code: where instructions go.
        tier: which instructions.
        layout: of the weights.
        matrix: address of a ``Matrix`` record.
        job: address of a ``Job`` record.
    """

    def __init__(
        self, code: Code, tier: IsaTier, layout: PackedLayout, matrix: Value, job: Value
    ) -> None:
        self.code, self.tier, self.layout = code, tier, layout
        self.blocks = PackedBlocks(code, tier, layout, matrix)
        self.job = Fields(code, job)
        self.begin, self.end = self.job[Job.TOKEN_BEGIN], self.job[Job.TOKEN_END]
        self.stride = self.job[Job.STRIDE]

    def add(
        self, block: PackedBlock, index: Value, tokens: Sequence[Value], sums: list[Value]
    ) -> None:
        """Add a block's share to the sums of some tokens, in place."""
        code, layout = self.code, self.layout
        per_scale = layout.sub_size // 4
        places = [code.b.add(code.times(index, self.stride), token) for token in tokens]
        quads = [quads_at(code, self.job, at) for at in places]
        factors = [code.splat(FLOATS, self._scale(at, InputScale.FACTOR)) for at in places]
        for half, scale in enumerate(block.scales):
            part = slice(half * per_scale, (half + 1) * per_scale)
            products = dots(
                code, self.tier, block.codes[part], [q[part] for q in quads], largest_code(layout)
            )
            for place, product in enumerate(products):
                sums[place] = code.fma(
                    code.b.sitofp(product, FLOATS),
                    code.b.fmul(scale.factor, factors[place]),
                    sums[place],
                )
        for place, at in enumerate(places):
            for half, scale in enumerate(block.scales):
                which = InputScale.SUM if len(block.scales) == 1 else InputScale.HALF_SUMS + half
                whole = self._scale(at, which)
                sums[place] = code.fma(scale.offset, code.splat(FLOATS, whole), sums[place])

    def _scale(self, at: Value, which: int) -> Value:
        return load_scale(self.code, self.job[Job.SCALES], at, which)

    def few(self, count: int) -> None:
        """For at most ``count`` tokens: their sums stay in registers."""
        code = self.code
        tokens = [code.b.add(self.begin, number(index)) for index in range(count)]
        for group, sums in self._in_registers(tokens):
            for token, value in zip(tokens, sums, strict=True):
                with code.b.if_then(code.b.icmp_signed("<", token, self.end)):
                    put_outputs(code, self.job, group, token, value)

    def picked(self) -> None:
        """For ``TOKENS_AT_ONCE`` tokens from anywhere: one row of outputs for each of the list."""
        code, where = self.code, self.job[Job.PICKED]
        rows = [number(index) for index in range(TOKENS_AT_ONCE)]
        tokens = [code.load(I64, code.address(where, code.times(row, 8)), 8) for row in rows]
        for group, sums in self._in_registers(tokens):
            for row, value in zip(rows, sums, strict=True):
                put_outputs(code, self.job, group, row, value)

    def _in_registers(self, tokens: Sequence[Value]) -> Iterator[tuple[Value, list[Value]]]:
        """Each of the job's groups, and the outputs of some tokens there."""
        code = self.code
        with code.loop(self.job[Job.GROUP_BEGIN], self.job[Job.GROUP_END]) as group:
            slots = [code.variable(zeros(FLOATS)) for _ in tokens]
            with code.loop(0, self.blocks.count) as index:
                sums = [code.b.load(slot) for slot in slots]
                self.blocks.ask_ahead(group, index, blocks_ahead(len(tokens)))
                self.add(self.blocks.at(group, index), index, tokens, sums)
                for slot, value in zip(slots, sums, strict=True):
                    code.b.store(value, slot)
            yield group, [code.b.load(slot) for slot in slots]

    def many(self) -> None:
        """For up to a tile of tokens: a block's weights stay in registers, the sums in L1."""
        code = self.code
        slot = partial(kept_sums, code, self.job)
        ahead = _Ahead(code, self.job)
        with code.loop(self.job[Job.GROUP_BEGIN], self.job[Job.GROUP_END]) as group:
            with code.loop(self.begin, self.end, TOKENS_AT_ONCE) as token:
                for index in range(TOKENS_AT_ONCE):
                    place = code.address(slot(token), LANE_BYTES * index)
                    code.store(zeros(FLOATS), place, LANE_BYTES)
                    out = output_place(code, self.job, group, code.address(token, index))
                    code.prefetch(out, to_write=True)
            with code.loop(0, self.blocks.count) as index:
                self.blocks.ask_ahead(group, index, BLOCKS_AHEAD)
                chunk = ahead.next_chunk()
                block = self.blocks.at(group, index)
                with code.loop(self.begin, self.end, TOKENS_AT_ONCE) as token:
                    line = code.times(code.b.sub(token, self.begin), LANE_BYTES // TOKENS_AT_ONCE)
                    code.prefetch(code.address(chunk, line), near=2)
                    tokens = [code.b.add(token, number(i)) for i in range(TOKENS_AT_ONCE)]
                    base = slot(token)
                    places = [code.address(base, LANE_BYTES * i) for i in range(TOKENS_AT_ONCE)]
                    sums = [code.load(FLOATS, place, LANE_BYTES) for place in places]
                    self.add(block, index, tokens, sums)
                    for place, value in zip(places, sums, strict=True):
                        code.store(value, place, LANE_BYTES)
            with code.loop(self.begin, self.end) as token:
                put_outputs(
                    code, self.job, group, token, code.load(FLOATS, slot(token), LANE_BYTES)
                )
        ahead.leave()


class _Ahead:
    """Walks along the list of what a job asks for besides: a chunk with each block of weights.

    Args:
        code: where instructions go.
        job: the job.
    """

    def __init__(self, code: Code, job: Fields) -> None:
        self._code, self._job = code, job
        given = code.load(I64, job.address(Job.AHEAD), 8)  # the one field that ``leave`` changes
        self._is_given = code.b.icmp_signed("!=", given, number(0))
        # Without a list, the job's own memory is asked for: there is no way around for that.
        begin = code.b.select(self._is_given, given, job.address(Job.SCRATCH))
        self._end = code.b.select(self._is_given, job[Job.AHEAD_END], number(0))
        self._offset = code.b.select(self._is_given, job[Job.AHEAD_OFFSET], number(0))
        self._at = code.variable(begin)

    def next_chunk(self) -> Value:
        """Where the next chunk begins."""
        code = self._code
        at = code.b.load(self._at)
        more = code.b.icmp_signed("<", at, self._end)
        code.b.store(code.b.select(more, code.address(at, 8), at), self._at)
        return code.address(code.load(I64, at, 8), self._offset)

    def leave(self) -> None:
        """Write down how far it came."""
        code = self._code
        with code.b.if_then(self._is_given):
            code.store(code.b.load(self._at), self._job.address(Job.AHEAD), 8)


def kept_sums(code: Code, job: Fields, token: Value) -> Value:
    """Where the sums of a token are kept in scratch memory: address of 16 floats."""
    place = code.times(code.b.sub(token, job[Job.TOKEN_BEGIN]), LANE_BYTES)
    return code.address(job[Job.SCRATCH], place)


def output_place(code: Code, job: Fields, group: Value, token: Value) -> Value:
    """Where 16 outputs of a token go."""
    row = code.times(token, job[Job.OUT_STRIDE])
    return code.address(job[Job.OUT], row, code.times(group, LANE_BYTES))


def put_outputs(code: Code, job: Fields, group: Value, token: Value, value: Value) -> None:
    """Write 16 outputs of a token."""
    code.store(value, output_place(code, job, group, token), 4)


def by_count(code: Code, job: Value, few: Callable[[int], None], many: Callable[[], None]) -> None:
    """Choose by the number of tokens between one, a few, and many."""
    fields = Fields(code, job)
    count = code.b.sub(fields[Job.TOKEN_END], fields[Job.TOKEN_BEGIN])
    with code.b.if_else(code.b.icmp_signed("<=", count, number(1))) as (one, more):
        with one:
            few(1)
        with more:
            several = code.b.icmp_signed("<=", count, number(TOKENS_AT_ONCE))
            with code.b.if_else(several) as (some, rest):
                with some:
                    few(TOKENS_AT_ONCE)
                with rest:
                    many()


def packed_product(tier: IsaTier, layout: PackedLayout) -> Callable[[int, int], None]:
    """The function ``(address of a Matrix, address of a Job)`` for weights of ``layout``.

    To be compiled by Numba. It reads inputs of up to three tokens behind the last one.
    """

    def emit(code: Code, matrix: Value, job: Value) -> None:
        product = _Product(code, tier, layout, matrix, job)
        by_count(code, job, product.few, product.many)

    return kernel_of(emit)


def picked_product(tier: IsaTier, layout: PackedLayout) -> Callable[[int, int], None]:
    """The same for the tokens that ``Job.PICKED`` lists, which need not be neighbours.

    Their outputs are rows one after the other, as if the list were all tokens.
    """

    def emit(code: Code, matrix: Value, job: Value) -> None:
        _Product(code, tier, layout, matrix, job).picked()

    return kernel_of(emit)
