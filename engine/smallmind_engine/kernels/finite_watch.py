"""Looks at activations between layers, and remembers where the first is not finite."""

from __future__ import annotations

import numpy as np

from smallmind_engine.kernels.spec import FloatArray


class FiniteWatch:
    """Belongs to one step.

    Attributes:
        first: where a value was first not finite; empty when all were.
    """

    __slots__ = ("first",)

    def __init__(self) -> None:
        self.first = ""

    def see(self, where: str, values: FloatArray) -> None:
        """Look at the values that are there after ``where``."""
        if not self.first and not np.isfinite(values).all():
            self.first = where

    def see_layer(self, index: int, values: FloatArray) -> None:
        """Look at what a layer made."""
        self.see(f"layer {index}", values)
