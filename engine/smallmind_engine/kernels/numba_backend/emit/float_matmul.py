"""Products of float weights with float inputs: ``out = inputs @ weights.T``.

As in ``matmul``, each lane owns a row and sums go in the order of the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from smallmind_engine.kernels.numba_backend.emit.decode_ir import load_bfloats, load_halves
from smallmind_engine.kernels.numba_backend.emit.matmul import (
    LANE_BYTES,
    by_count,
    kept_sums,
    put_outputs,
)
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    F32,
    FLOATS,
    Code,
    Fields,
    Value,
    kernel_of,
    number,
    zeros,
)
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.records import Job, Matrix

_COLUMNS_AT_ONCE: Final = 8
_ITEM_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}


class _Product:
    """Emits the product for one type of weights; ``kind`` is a key of ``_ITEM_BYTES``."""

    def __init__(self, code: Code, tier: IsaTier, kind: str, matrix: Value, job: Value) -> None:
        self.code, self.tier, self.kind = code, tier, kind
        fields = Fields(code, matrix)
        self.columns, self.weights = fields[Matrix.COLUMNS], fields[Matrix.LOW]
        self.job = Fields(code, job)
        self.begin, self.end = self.job[Job.TOKEN_BEGIN], self.job[Job.TOKEN_END]

    def _weights(self, group: Value, column: Value) -> Value:
        code, size = self.code, 16 * _ITEM_BYTES[self.kind]
        at = code.times(code.b.add(code.times(group, self.columns), column), size)
        address = code.address(self.weights, at)
        if self.kind == "F32":
            return code.load(FLOATS, address, size)
        if self.kind == "F16":
            return load_halves(code, self.tier, address, size)
        return load_bfloats(code, address, size)

    def _inputs(self, token: Value) -> Value:
        code = self.code
        return code.address(self.job[Job.FLOATS], code.times(token, self.job[Job.FLOAT_STRIDE]))

    def _add(self, weights: Sequence[Value], column: Value, inputs: Value, total: Value) -> Value:
        code = self.code
        base = code.address(inputs, code.times(column, 4))
        for index, weight in enumerate(weights):
            x = code.splat(FLOATS, code.load(F32, code.address(base, 4 * index), 4))
            total = code.fma(weight, x, total)
        return total

    def few(self, count: int) -> None:
        """For at most ``count`` tokens: their sums stay in registers."""
        code = self.code
        # Tokens that are not there repeat the last one, so that nothing beyond is read.
        last = code.b.sub(self.end, number(1))
        tokens = []
        for index in range(count):
            token = code.b.add(self.begin, number(index))
            there = code.b.icmp_signed("<", token, self.end)
            tokens.append(code.b.select(there, token, last))
        inputs = [self._inputs(token) for token in tokens]
        with code.loop(self.job[Job.GROUP_BEGIN], self.job[Job.GROUP_END]) as group:
            slots = [code.variable(zeros(FLOATS)) for _ in tokens]
            with code.loop(0, self.columns) as column:
                weights = [self._weights(group, column)]
                for slot, base in zip(slots, inputs, strict=True):
                    code.b.store(self._add(weights, column, base, code.b.load(slot)), slot)
            for token, slot in zip(tokens, slots, strict=True):
                put_outputs(code, self.job, group, token, code.b.load(slot))

    def many(self) -> None:
        """For up to a tile of tokens: some weights stay in registers, the sums in L1."""
        code = self.code
        slot = partial(kept_sums, code, self.job)
        whole = code.b.sub(self.columns, code.b.urem(self.columns, number(_COLUMNS_AT_ONCE)))
        with code.loop(self.job[Job.GROUP_BEGIN], self.job[Job.GROUP_END]) as group:
            with code.loop(self.begin, self.end) as token:
                code.store(zeros(FLOATS), slot(token), LANE_BYTES)
            for begin, end, step in (
                (number(0), whole, _COLUMNS_AT_ONCE),
                (whole, self.columns, 1),
            ):
                with code.loop(begin, end, step) as column:
                    weights = [
                        self._weights(group, code.b.add(column, number(i))) for i in range(step)
                    ]
                    with code.loop(self.begin, self.end) as token:
                        total = code.load(FLOATS, slot(token), LANE_BYTES)
                        total = self._add(weights, column, self._inputs(token), total)
                        code.store(total, slot(token), LANE_BYTES)
            with code.loop(self.begin, self.end) as token:
                put_outputs(
                    code, self.job, group, token, code.load(FLOATS, slot(token), LANE_BYTES)
                )


def float_product(tier: IsaTier, kind: str) -> Callable[[int, int], None]:
    """The function ``(address of a Matrix, address of a Job)`` for weights of type ``kind``.

    Args:
        tier: which instructions.
        kind: ``F32``, ``F16`` or ``BF16``.
    """

    def emit(code: Code, matrix: Value, job: Value) -> None:
        product = _Product(code, tier, kind, matrix, job)
        by_count(code, job, product.few, product.many)

    return kernel_of(emit)
