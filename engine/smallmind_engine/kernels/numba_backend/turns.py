"""Cosines and sines of all positions so far, as one array that compiled code indexes."""

# P positions, R rotated pairs

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from smallmind_engine.kernels.rotation import RotationTable
from smallmind_engine.kernels.spec import FloatArray, RopeTable, TransformerSpec

_POSITIONS_AT_ONCE: Final = 1024


def turns_bytes(spec: TransformerSpec, positions: int) -> int:
    """Memory of the array for so many positions."""
    tables = {layer.rope for layer in spec.layers if layer.rope is not None}
    rows = -(-positions // _POSITIONS_AT_ONCE) * _POSITIONS_AT_ONCE
    return len(tables) * 2 * rows * _pairs(tuple(tables)) * np.dtype(np.float32).itemsize


def _pairs(tables: Sequence[RopeTable]) -> int:
    return max((len(table.inverse_frequencies) for table in tables), default=1)


class Turns:
    """Grows as positions come up. Belongs to one thread at a time.

    Args:
        spec: tells the rotation of each layer.
    """

    def __init__(self, spec: TransformerSpec) -> None:
        tables = dict.fromkeys(layer.rope for layer in spec.layers if layer.rope is not None)
        self._tables = tuple(tables)
        self._pairs = _pairs(self._tables)
        positions = 0 if self._tables else 1  # none is known yet, or none is ever looked at
        shape = (max(len(self._tables), 1), 2, positions, self._pairs)
        self._array = np.zeros(shape, np.float32)

    def up_to(self, positions: int) -> FloatArray:
        """Shape (tables, 2, P, R), with P at least ``positions``; unused pairs are zero."""
        if positions > self._array.shape[2] and self._tables:
            rows = -(-positions // _POSITIONS_AT_ONCE) * _POSITIONS_AT_ONCE
            array = np.zeros((len(self._tables), 2, rows, self._pairs), np.float32)
            for index, rope in enumerate(self._tables):
                table = RotationTable(rope)  # not kept: it would hold the same numbers again
                cos, sin = table.at(np.arange(rows))
                array[index, 0, :, : table.n_pairs] = cos[:, 0]
                array[index, 1, :, : table.n_pairs] = sin[:, 0]
            self._array = array
        return self._array
