"""Work on whole rows of activations: norms, residual sums, rotation."""

from __future__ import annotations

from typing import Any

import numpy as np

from smallmind_engine.kernels.numba_backend.emit.compiled import inner_fast


@inner_fast
def norm(x: Any, weight: Any, bias: Any, eps: float, centred: int, out: Any) -> None:
    """Normalise a row; ``bias`` may be empty.

    Source: Zhang & Sennrich 2019, eq. 4 (arXiv:1910.07467); centred: Ba, Kiros & Hinton 2016,
    eq. 4 (arXiv:1607.06450).
    """
    size = len(weight)
    mean = np.float32(0.0)
    if centred:
        for i in range(size):
            mean += x[i]
        mean /= np.float32(size)
    squares = np.float32(0.0)
    for i in range(size):
        value = x[i] - mean
        squares += value * value
    scale = np.float32(1.0) / np.sqrt(squares / np.float32(size) + np.float32(eps))
    for i in range(size):
        out[i] = (x[i] - mean) * scale * weight[i]
    if len(bias):
        for i in range(size):
            out[i] += bias[i]


@inner_fast
def add_residual(
    x: Any, block: Any, bias: Any, post_norm: Any, eps: float, centred: int, nothing: Any
) -> None:
    """Add a block's output to the residual stream, after its bias and norm if it has any.

    Args:
        x: the stream's row, changed in place.
        block: the block's row; overwritten when there is a bias or a norm.
        bias: may be empty.
        post_norm: weight; may be empty.
        eps: of the norm.
        centred: as in ``norm``.
        nothing: an empty vector.
    """
    if len(bias):
        for i in range(len(bias)):
            block[i] += bias[i]
    if len(post_norm):
        norm(block, post_norm, nothing, eps, centred, block)
    for i in range(len(x)):
        x[i] += block[i]


@inner_fast
def rotate(head: Any, cos: Any, sin: Any) -> None:
    """Rotate the first dimensions of a head, halves against each other, in place.

    Source: Su et al. 2021, eq. 34 (arXiv:2104.09864).
    """
    pairs = len(cos)
    for i in range(pairs):
        first, second = head[i], head[pairs + i]
        head[i] = first * cos[i] - second * sin[i]
        head[pairs + i] = second * cos[i] + first * sin[i]


@inner_fast
def scale_row(row: Any, factor: float) -> None:
    """Multiply a row with a number, in place."""
    for i in range(len(row)):
        row[i] *= factor
