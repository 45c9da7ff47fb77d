"""Rotary position embedding: tables of sines and cosines.

Weights of the NORMAL layout are reordered at load so that both layouts rotate halves of a head:
query-key products do not change when both sides are reordered alike.

Source: Su et al. 2021, eq. 34 (arXiv:2104.09864).
"""

# T tokens, H heads, D head size, R rotated pairs

from __future__ import annotations

import threading
from typing import Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.kernels.spec import FloatArray, IntArray, RopeTable

_POSITIONS_AT_ONCE: Final = 1024


def halves_order(head_dim: int, n_pairs: int) -> npt.NDArray[np.intp]:
    """Where each dimension of a reordered head comes from in the NORMAL layout.

    >>> halves_order(6, 2).tolist()
    [0, 2, 1, 3, 4, 5]
    """
    rotated = np.arange(2 * n_pairs).reshape(n_pairs, 2).T.ravel()
    return np.concatenate((rotated, np.arange(2 * n_pairs, head_dim)))


class RotationTable:
    """Sines and cosines by position, computed as positions come up. Thread-safe.

    Args:
        table: the rotation speeds.
    """

    def __init__(self, table: RopeTable) -> None:
        self._speeds = np.asarray(table.inverse_frequencies, np.float64)
        self._magnitude = table.magnitude
        self._lock = threading.Lock()
        self._cos: FloatArray = np.empty((0, len(self._speeds)), np.float32)
        self._sin: FloatArray = self._cos

    @property
    def n_pairs(self) -> int:
        """R."""
        return len(self._speeds)

    def at(self, positions: IntArray) -> tuple[FloatArray, FloatArray]:
        """Cosines and sines at ``positions``, shape (T,): two arrays of shape (T, 1, R)."""
        needed = int(positions.max()) + 1
        if needed > len(self._sin):
            self._grow(needed)
        cos, sin = self._cos, self._sin
        return cos[positions][:, None, :], sin[positions][:, None, :]

    def _grow(self, needed: int) -> None:
        with self._lock:
            rows = -(-needed // _POSITIONS_AT_ONCE) * _POSITIONS_AT_ONCE
            if rows <= len(self._sin):
                return
            angles = np.arange(rows, dtype=np.float64)[:, None] * self._speeds
            # Readers take the cosines first and check the sines' length: set the sines last.
            self._cos = (np.cos(angles) * self._magnitude).astype(np.float32)
            self._sin = (np.sin(angles) * self._magnitude).astype(np.float32)
