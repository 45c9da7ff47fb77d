"""The few inputs that most of a bound's width comes from, taken in full.

Some dimensions of a model's hidden state are many times larger than the others (Dettmers et al.
2022, "LLM.int8()"), and a bound is as wide as the lower halves of codes are unknown, times the
inputs. Reading those that belong to the four largest inputs makes bounds narrower by half, and far
fewer groups of outputs are in doubt. They are read once for all tokens of a step. For one token
they are not: it waits for memory, and few outputs are in doubt for it.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir

from smallmind_engine.kernels.numba_backend.emit.addresses import address_of
from smallmind_engine.kernels.numba_backend.emit.compiled import inner
from smallmind_engine.kernels.numba_backend.emit.decode_ir import VECTOR_BYTES, low_bytes
from smallmind_engine.kernels.numba_backend.emit.input_scales import load_scale
from smallmind_engine.kernels.numba_backend.emit.rows_ir import BLOCK
from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    BYTES,
    F32,
    I8,
    Code,
    Value,
    ir_function,
    number,
)
from smallmind_engine.kernels.numba_backend.records import (
    OUTLIERS,
    TERM_BYTES,
    InputScale,
    Job,
    Matrix,
    Outlier,
    Size,
    Term,
)
from smallmind_engine.kernels.packing import SPLIT_Q8_0

VARIANCE: Final = 255.0 / 12.0
"""Of the lower half of a code."""

_LOW_BYTES: Final = low_bytes(SPLIT_Q8_0)
_FIELDS: Final = len(Outlier)
_QUAD: Final = 4
_QUADS_OF_A_VECTOR: Final = 2
_BYTE_BITS: Final = 8
_HALF_BITS: Final = 4


def _add_energies(
    code: Code, codes: Value, scales: Value, stride: Value, token: Value, blocks: Value,
    energies: Value,
) -> None:  # fmt: skip
    floats = ir.VectorType(F32, BLOCK)
    with code.loop(0, blocks) as block:
        at = code.b.add(code.times(block, stride), token)
        loaded = code.load(
            ir.VectorType(BYTES.element, BLOCK), code.address(codes, code.times(at, BLOCK)), BLOCK
        )
        factor = load_scale(code, scales, at, InputScale.FACTOR)
        value = code.b.fmul(code.b.sitofp(loaded, floats), code.splat(floats, factor))
        place = code.address(energies, code.times(block, 4 * BLOCK))
        code.store(code.fma(value, value, code.load(floats, place, 4 * BLOCK)), place, 4 * BLOCK)


_energies: Any = ir_function(_add_energies, 6)
"""``(codes, scales, stride, token, blocks, energies)``: add the squares of a token's inputs."""


def _take_in_full(
    code: Code, codes: Value, scales: Value, stride: Value, token: Value, which: Value,
    terms: Value, value_at: Value,
) -> None:  # fmt: skip
    block, lane = (divide(which, number(BLOCK)) for divide in (code.b.udiv, code.b.urem))
    at = code.b.add(code.times(block, stride), token)
    loaded = code.load(I8, code.address(codes, code.times(at, BLOCK), lane), 1)
    factor = load_scale(code, scales, at, InputScale.FACTOR)
    value = code.b.fmul(code.b.sitofp(loaded, F32), factor)
    code.store(value, value_at, 4)
    place = code.address(terms, code.times(block, TERM_BYTES), 4 * Term.VARIANCE)
    scaled = code.b.fmul(code.b.fmul(value, value), ir.Constant(F32, VARIANCE))
    rest = code.b.fsub(code.load(F32, place, 4), scaled)
    # Rounded, it may be less than nothing; what is no number stays so.
    code.store(code.larger(ir.Constant(F32, 0.0), rest), place, 4)


_in_full: Any = ir_function(_take_in_full, 7)
"""``(codes, scales, stride, token, input, terms, address of a float)``: write the value of an input
of a token there, and take its share out of the variance of the token's terms."""


@inner
def find_outliers(s: Any, thread: int, job: Any) -> None:
    """Find the largest inputs of all tokens, and take them out of what makes bounds wide.

    Args:
        s: the step.
        thread: which one.
        job: the thread's record, with inputs and terms filled in.
    """
    outliers, energies = s.search[10][thread], s.search[11][thread]
    blocks = s.matrices[s.sizes[Size.OUTPUT], Matrix.COLUMNS] // BLOCK
    for index in range(blocks * BLOCK):
        energies[index] = 0
    for token in range(s.sizes[Size.WANTED]):
        _energies(
            job[Job.CODES], job[Job.SCALES], job[Job.STRIDE], token, blocks, address_of(energies)
        )
    for place in range(OUTLIERS):
        which = 0
        # As integers, floats that are not negative have their order, and NaN has a place in it.
        for index in range(blocks * BLOCK):
            if energies[index] > energies[which]:
                which = index
        energies[which] = -1
        block, quad, byte = which // BLOCK, which % BLOCK // _QUAD, which % _QUAD
        at = place * _FIELDS
        outliers[at + Outlier.INPUT] = which
        outliers[at + Outlier.PLACE] = (
            block * _LOW_BYTES + quad // _QUADS_OF_A_VECTOR * VECTOR_BYTES
        )
        outliers[at + Outlier.SHIFT] = byte * _BYTE_BITS + quad % _QUADS_OF_A_VECTOR * _HALF_BITS
        for token in range(s.sizes[Size.WANTED]):
            terms = job[Job.TERMS] + token * job[Job.TERM_STRIDE]
            _in_full(
                job[Job.CODES], job[Job.SCALES], job[Job.STRIDE], token, which, terms,
                terms + blocks * TERM_BYTES + 4 * place,
            )  # fmt: skip
