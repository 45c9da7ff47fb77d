"""A GGUF file as a source of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.gguf import GgufFile, QuantType
from smallmind_engine.kernels import FloatArray


@dataclass(frozen=True, slots=True)
class GgufWeights:
    """Looks tensors up in ``file``, which must stay open."""

    file: GgufFile

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name."""
        return name in self.file.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape, outermost dimension first."""
        return self.file.tensors[name].shape

    def floats(
        self,
        name: str,
        *,
        rows: slice | None = None,
        out: FloatArray | None = None,
        limit: WorkLimit = NO_LIMIT,
    ) -> FloatArray:
        """Its values as float32."""
        return self.file.floats(name, rows=rows, out=out, limit=limit)

    def qtype(self, name: str) -> QuantType:
        """How its numbers are stored."""
        return self.file.tensors[name].qtype

    def data(self, name: str, *, rows: slice | None = None) -> npt.NDArray[np.uint8]:
        """Its bytes, in the little-endian form of its type."""
        return self.file.rows(name, rows)

    def release(self, name: str) -> None:
        """Let the operating system take the memory of its bytes."""
        self.file.release(name)
