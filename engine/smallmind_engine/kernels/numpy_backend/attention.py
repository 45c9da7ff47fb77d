"""Attention over a sequence, tile by tile, so that scores stay small for long prompts."""

# T new tokens, S cached and new, K kv-heads, G query heads a kv-head, D key size, E value size

from __future__ import annotations

from typing import Final

import numpy as np

from smallmind_engine.kernels.numpy_backend.ops import softcap
from smallmind_engine.kernels.numpy_backend.workspace import Workspace
from smallmind_engine.kernels.spec import FloatArray

QUERY_TILE: Final = 128


def attend(
    queries: FloatArray,
    keys: FloatArray,
    values: FloatArray,
    start: int,
    window: int | None,
    cap: float | None,
    out: FloatArray,
    workspace: Workspace,
    *,
    causal: bool = True,
) -> FloatArray:
    """Weigh values by the softmax of query-key products.

    Args:
        queries: shape (T, K, G, D), float32, already scaled.
        keys: shape (K, S, D), float32, with S = start + T.
        values: shape (K, S, E), float32.
        start: position of the first query.
        window: a query sees so many last positions, its own included; None for all.
        cap: soft cap of the scores; None for none.
        out: shape (T, K, G, E), float32; receives the result.
        workspace: lends the memory for scores.
        causal: whether a query sees only positions up to its own.

    Returns:
        ``out``.

    Source: Vaswani et al. 2017, eq. 1; the online tiling over queries only, since a row of
    scores fits in memory.
    """
    n_tokens, n_kv, group, _ = queries.shape
    for begin in range(0, n_tokens, QUERY_TILE):
        end = min(begin + QUERY_TILE, n_tokens)
        tile = end - begin
        low = 0 if window is None else max(0, start + begin - window + 1)
        high = start + (end if causal else n_tokens)
        rows = queries[begin:end].transpose(1, 2, 0, 3).reshape(n_kv, group * tile, -1)
        scores = workspace.floats("scores", (n_kv, group * tile, high - low))
        np.matmul(rows, keys[:, low:high].transpose(0, 2, 1), out=scores)
        if cap is not None:
            softcap(scores, cap)
        if causal and tile > 1:
            by_row = scores.reshape(n_kv, group, tile, high - low)
            _mask(by_row, start + begin - low, window)
        np.subtract(scores, scores.max(axis=-1, keepdims=True), out=scores)
        np.exp(scores, out=scores)
        total = scores.sum(axis=-1, keepdims=True)
        mixed = workspace.floats("mixed", (n_kv, group * tile, values.shape[-1]))
        np.matmul(scores, values[:, low:high], out=mixed)
        np.divide(mixed, total, out=mixed)
        out[begin:end] = mixed.reshape(n_kv, group, tile, -1).transpose(2, 0, 1, 3)
    return out


def _mask(scores: FloatArray, own: int, window: int | None) -> None:
    """Hide later positions and those before the window.

    Args:
        scores: shape (K, G, T, S).
        own: column of the first query's own position.
        window: as in ``attend``.
    """
    tile, n_keys = scores.shape[2:]
    later = np.triu(np.full((tile, n_keys - own), -np.inf, np.float32), k=1)
    scores[..., own:] += later
    if window is not None and n_keys > window:
        first_seen = np.arange(tile)[:, None] + (own - window + 1)
        scores[..., np.arange(n_keys) < first_seen] = -np.inf
