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

_LOWEST: Final = -87.0  # below it the result is about 1e-38, which is as good as zero
_HIGHEST: Final = 88.0
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
_EXPONENT_BIAS: Final = 127
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
    n = code.unary("rint", b.fmul(x, every(floats, 1.0 / math.log(2.0))))
    r = code.fma(n, every(floats, -_LN2_HIGH), x)
    r = code.fma(n, every(floats, -_LN2_LOW), r)
    p = every(floats, _EXP[0])
    for coefficient in _EXP[1:]:
        p = code.fma(p, r, every(floats, coefficient))
    p = code.fma(p, b.fmul(r, r), b.fadd(r, every(floats, 1.0)))
    exponent = b.add(b.fptosi(n, ints), every(ints, _EXPONENT_BIAS))
    return b.fmul(p, code.bits(b.shl(exponent, every(ints, _MANTISSA_BITS)), floats))


def sigmoid(code: Code, x: Value) -> Value:
    """1 / (1 + e^-x)."""
    one = every(FLOATS, 1.0)
    return code.b.fdiv(one, code.b.fadd(one, exp(code, code.b.fneg(x))))


def tanh(code: Code, x: Value) -> Value:
    """The hyperbolic tangent, as 2 sigmoid(2x) - 1: right to about 1e-7 absolute."""
    two = every(FLOATS, 2.0)
    return code.fma(two, sigmoid(code, code.b.fmul(two, x)), every(FLOATS, -1.0))


def silu(code: Code, x: Value) -> Value:
    """X sigmoid(x). Source: Hendrycks & Gimpel 2016 (arXiv:1606.08415)."""
    return code.b.fmul(x, sigmoid(code, x))


def gelu_tanh(code: Code, x: Value) -> Value:
    """The tanh form of GELU, where (1 + tanh(u)) / 2 = sigmoid(2u). Source: as ``silu``."""
    b = code.b
    cubic = code.fma(b.fmul(x, x), every(FLOATS, _GELU_CUBIC), every(FLOATS, 1.0))
    u = b.fmul(b.fmul(cubic, x), every(FLOATS, 2.0 * _GELU_LINEAR))
    return b.fmul(x, sigmoid(code, u))
