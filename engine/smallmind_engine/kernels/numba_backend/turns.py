"""Cosines and sines of all positions so far, as one array that compiled code indexes."""

# P positions, R rotated pairs

from __future__ import annotations

from typing import Final

import numpy as np

from smallmind_engine.kernels.rotation import RotationTable
from smallmind_engine.kernels.spec import FloatArray, TransformerSpec

_POSITIONS_AT_ONCE: Final = 1024


class Turns:
    """Grows as positions come up. Belongs to one thread at a time.

    Args:
        spec: tells the rotation of each layer.
    """

    def __init__(self, spec: TransformerSpec) -> None:
        tables = dict.fromkeys(layer.rope for layer in spec.layers if layer.rope is not None)
        self._tables = [RotationTable(table) for table in tables]
        self._pairs = max((table.n_pairs for table in self._tables), default=1)
        positions = 0 if self._tables else 1  # none is known yet, or none is ever looked at
        shape = (max(len(self._tables), 1), 2, positions, self._pairs)
        self._array = np.zeros(shape, np.float32)

    def up_to(self, positions: int) -> FloatArray:
        """Shape (tables, 2, P, R), with P at least ``positions``; unused pairs are zero."""
        if positions > self._array.shape[2] and self._tables:
            rows = -(-positions // _POSITIONS_AT_ONCE) * _POSITIONS_AT_ONCE
            array = np.zeros((len(self._tables), 2, rows, self._pairs), np.float32)
            for index, table in enumerate(self._tables):
                cos, sin = table.at(np.arange(rows))
                array[index, 0, :, : table.n_pairs] = cos[:, 0]
                array[index, 1, :, : table.n_pairs] = sin[:, 0]
            self._array = array
        return self._array
