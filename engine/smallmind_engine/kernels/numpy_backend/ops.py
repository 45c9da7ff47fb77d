"""Norms and activations over rows of activations."""

# T tokens, C width, F inner width of the feed-forward block, H heads, D head size, R rotated pairs

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from smallmind_engine.kernels.spec import Activation, FloatArray

ROWS_IN_CACHE: Final = 64
"""Element-wise work goes in slices of so many rows, so that they stay in the L2 cache."""

SCRATCH_ROWS: Final = 3 * ROWS_IN_CACHE
"""Rows that an activation needs for its own use."""

_GELU_LINEAR: Final = np.float32(math.sqrt(2.0 / math.pi))
_GELU_CUBIC: Final = np.float32(0.044715)
_TAIL_PLACE: Final = np.float32(0.3275911 / math.sqrt(2.0))
_TAIL_POLYNOMIAL: Final = tuple(
    np.float32(0.5 * coefficient)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
)


def rms_norm(x: FloatArray, weight: FloatArray, eps: float, out: FloatArray) -> FloatArray:
    """Scale each row of ``x`` to unit root mean square, then by ``weight``.

    Args:
        x: activations, shape (..., C), float32.
        weight: gain, shape (C,), float32.
        eps: added to the mean square; keeps an all-zero row finite.
        out: receives the result; may be ``x`` itself.

    Returns:
        ``out``.

    Source: Zhang & Sennrich 2019, eq. 4 (arXiv:1910.07467).

    >>> x = np.array([[3.0, 4.0]], np.float32)
    >>> rms_norm(x, np.ones(2, np.float32), 0.0, np.empty_like(x)).round(2).tolist()
    [[0.8500000238418579, 1.1299999952316284]]
    """
    scale = np.vecdot(x, x)
    scale /= x.shape[-1]
    scale += eps
    np.sqrt(scale, out=scale)
    np.divide(x, scale[..., None], out=out)
    np.multiply(out, weight, out=out)
    return out


def layer_norm(
    x: FloatArray, weight: FloatArray, bias: FloatArray | None, eps: float, out: FloatArray
) -> FloatArray:
    """Centre each row of ``x``, scale it to unit variance, then by ``weight``, and add ``bias``.

    Args:
        x: activations, shape (..., C), float32.
        weight: gain, shape (C,), float32.
        bias: offset, shape (C,), float32.
        eps: added to the variance.
        out: receives the result; may be ``x`` itself.

    Returns:
        ``out``.

    Source: Ba, Kiros & Hinton 2016, eq. 4 (arXiv:1607.06450).
    """
    np.subtract(x, x.mean(axis=-1, keepdims=True), out=out)
    scale = np.vecdot(out, out)
    scale /= x.shape[-1]
    scale += eps
    np.sqrt(scale, out=scale)
    np.divide(out, scale[..., None], out=out)
    np.multiply(out, weight, out=out)
    if bias is not None:
        np.add(out, bias, out=out)
    return out


def activate(kind: Activation, x: FloatArray, scratch: FloatArray) -> FloatArray:
    """Apply the non-linearity to ``x`` in place.

    Args:
        kind: which one.
        x: shape (T, F), float32, contiguous along F.
        scratch: ``SCRATCH_ROWS`` rows, F columns; overwritten.

    Returns:
        ``x``.
    """
    apply = _ACTIVATIONS[kind]
    for start in range(0, x.shape[0], ROWS_IN_CACHE):
        apply(x[start : start + ROWS_IN_CACHE], scratch)
    return x


def _silu(rows: FloatArray, scratch: FloatArray) -> None:
    """Source: Hendrycks & Gimpel 2016, section 2 (arXiv:1606.08415)."""
    temporary = scratch[: rows.shape[0]]
    np.negative(rows, out=temporary)
    np.exp(temporary, out=temporary)
    np.add(temporary, np.float32(1.0), out=temporary)
    np.divide(rows, temporary, out=rows)


def _gelu_tanh(rows: FloatArray, scratch: FloatArray) -> None:
    """The tanh form. Source: as of ``_silu``."""
    temporary = scratch[: rows.shape[0]]
    np.multiply(rows, rows, out=temporary)
    np.multiply(temporary, _GELU_CUBIC, out=temporary)
    np.add(temporary, np.float32(1.0), out=temporary)
    np.multiply(temporary, rows, out=temporary)
    np.multiply(temporary, _GELU_LINEAR, out=temporary)
    np.tanh(temporary, out=temporary)
    np.add(temporary, np.float32(1.0), out=temporary)
    np.multiply(rows, temporary, out=rows)
    np.multiply(rows, np.float32(0.5), out=rows)


def _gelu_erf(rows: FloatArray, scratch: FloatArray) -> None:
    """``x`` times the normal distribution's share below it, which is ``max(x, 0) - |x| tail``.

    The tail beyond ``|x|`` is ``exp(-x**2 / 2)`` times a polynomial in ``1 / (1 + c |x|)``, within
    1e-7 of the truth. Source: Abramowitz & Stegun 1964, 7.1.26.
    """
    count = rows.shape[0]
    size, place, tail = (scratch[n * ROWS_IN_CACHE :][:count] for n in range(3))
    np.abs(rows, out=size)
    np.multiply(size, _TAIL_PLACE, out=place)
    np.add(place, np.float32(1.0), out=place)
    np.reciprocal(place, out=place)
    np.multiply(place, _TAIL_POLYNOMIAL[0], out=tail)
    for coefficient in _TAIL_POLYNOMIAL[1:]:
        np.add(tail, coefficient, out=tail)
        np.multiply(tail, place, out=tail)
    np.multiply(size, size, out=place)
    np.multiply(place, np.float32(-0.5), out=place)
    np.exp(place, out=place)
    np.multiply(tail, place, out=tail)
    np.multiply(tail, size, out=tail)
    np.maximum(rows, np.float32(0.0), out=rows)
    np.subtract(rows, tail, out=rows)


_ACTIVATIONS: Final[Mapping[Activation, Callable[[FloatArray, FloatArray], None]]] = {
    Activation.SILU: _silu,
    Activation.GELU_TANH: _gelu_tanh,
    Activation.GELU_ERF: _gelu_erf,
}


def softcap(x: FloatArray, cap: float) -> FloatArray:
    """Squash ``x`` into (-cap, cap), in place: ``cap * tanh(x / cap)``.

    Source: Gemma 2 report, section 2 (arXiv:2408.00118).
    """
    np.divide(x, np.float32(cap), out=x)
    np.tanh(x, out=x)
    np.multiply(x, np.float32(cap), out=x)
    return x


def rotate(x: FloatArray, cos: FloatArray, sin: FloatArray) -> FloatArray:
    """Rotate the first 2R dimensions of each head, halves against each other, in place.

    Args:
        x: shape (T, H, D), float32.
        cos: shape (T, 1, R), float32.
        sin: likewise.

    Returns:
        ``x``.

    Source: Su et al. 2021, eq. 34 (arXiv:2104.09864).
    """
    n_pairs = cos.shape[-1]
    first = x[..., :n_pairs]
    second = x[..., n_pairs : 2 * n_pairs]
    turned = second * cos
    turned += first * sin
    first *= cos
    second *= sin
    first -= second
    second[...] = turned
    return x
