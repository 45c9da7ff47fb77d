"""Exponential functions on vectors, and the activations made of them."""

from __future__ import annotations

import math
from typing import Final

from llvmlite import ir

from smallmind_engine.kernels.numba_backend.emit.vector_ir import (
    FLOATS,
    I32,
    Code,
    Value,
    every,
)

_LOWEST: Final = -86.9  # below it the result is about 2e-38, which is as good as zero
_HIGHEST: Final = 88.0
_NO_FRACTION: Final = 1.5 * 2.0**23
_LN2_HIGH: Final = 0.693359375
_LN2_LOW: Final = -2.12194440e-4
_EXP: Final = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    0.16666665459,
    0.5,
)
_MANTISSA_BITS: Final = 23
_GELU_LINEAR: Final = math.sqrt(2.0 / math.pi)
_GELU_CUBIC: Final = 0.044715


def exp(code: Code, x: Value) -> Value:
    """E to the power of some floats, to about 2 units in the last place; never 0, never infinite.

    Source: Cephes ``expf`` (Moshier 1989): reduction to [-ln 2 / 2, ln 2 / 2], polynomial of
    degree 5, exponent put in.
    """
    b, floats = code.b, x.type
    ints = ir.VectorType(I32, floats.count)
    x = code.larger(code.smaller(x, every(floats, _HIGHEST)), every(floats, _LOWEST))
    # Adding what leaves no bits for fractions rounds, and leaves the integer in the lowest bits.
    rounded = code.fma(x, every(floats, 1.0 / math.log(2.0)), every(floats, _NO_FRACTION))
    n = b.fsub(rounded, every(floats, _NO_FRACTION))
    r = code.fma(n, every(floats, -_LN2_HIGH), x)
    r = code.fma(n, every(floats, -_LN2_LOW), r)
    square = b.fmul(r, r)
    # In pairs, which do not wait for each other (Estrin 1960).
    p, *pairs = (
        code.fma(every(floats, odd), r, every(floats, even))
        for odd, even in zip(_EXP[::2], _EXP[1::2], strict=True)
    )
    for pair in pairs:
        p = code.fma(p, square, pair)
    p = code.fma(p, square, b.fadd(r, every(floats, 1.0)))
    exponent = b.shl(code.bits(rounded, ints), every(ints, _MANTISSA_BITS))
    return code.bits(b.add(code.bits(p, ints), exponent), floats)


def sigmoid(code: Code, x: Value) -> Value:
    """1 / (1 + e^-x)."""
    one = every(FLOATS, 1.0)
    return code.b.fdiv(one, code.b.fadd(one, exp(code, code.b.fneg(x))))


def tanh(code: Code, x: Value) -> Value:
    """The hyperbolic tangent, as 2 sigmoid(2x) - 1: right to about 1e-7 absolute."""
    two = every(FLOATS, 2.0)
    return code.fma(two, sigmoid(code, code.b.fmul(two, x)), every(FLOATS, -1.0))


def _gated(code: Code, x: Value, u: Value) -> Value:
    """X sigmoid(u), with one division and no product."""
    one = every(FLOATS, 1.0)
    return code.b.fdiv(x, code.b.fadd(one, exp(code, code.b.fneg(u))))


def silu(code: Code, x: Value) -> Value:
    """X sigmoid(x). Source: Hendrycks & Gimpel 2016 (arXiv:1606.08415)."""
    return _gated(code, x, x)


def gelu_tanh(code: Code, x: Value) -> Value:
    """The tanh form of GELU, where (1 + tanh(u)) / 2 = sigmoid(2u). Source: as ``silu``."""
    b = code.b
    cubic = code.fma(b.fmul(x, x), every(FLOATS, _GELU_CUBIC), every(FLOATS, 1.0))
    u = b.fmul(b.fmul(cubic, x), every(FLOATS, 2.0 * _GELU_LINEAR))
    return _gated(code, x, u)
