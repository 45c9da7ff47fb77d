"""A GGUF file as a source of weights."""

from __future__ import annotations

from dataclasses import dataclass

from smallmind_engine.gguf import GgufFile
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
        self, name: str, *, rows: slice | None = None, out: FloatArray | None = None
    ) -> FloatArray:
        """Its values as float32."""
        return self.file.floats(name, rows=rows, out=out)
