"""The NumPy backend: dequantises weights to float32 and leaves the products to BLAS."""

from __future__ import annotations

from typing import Final

from smallmind_engine.control import WorkLimit
from smallmind_engine.kernels.backend import Progress, WeightsMode
from smallmind_engine.kernels.numpy_backend.model_weights import (
    ModelWeights,
    layer_bytes,
    resident_bytes,
)
from smallmind_engine.kernels.numpy_backend.transformer import NumpyRunner
from smallmind_engine.kernels.spec import TransformerSpec, WeightSource


class NumpyBackend:
    """Always there; the reference that other backends are held against."""

    name: Final = "numpy"

    def weight_bytes(self, spec: TransformerSpec, source: WeightSource, mode: WeightsMode) -> int:
        """Memory that ``prepare`` would take for good."""
        if mode is WeightsMode.RESIDENT:
            return resident_bytes(spec, source)
        return layer_bytes(spec)

    def prepare(
        self,
        spec: TransformerSpec,
        source: WeightSource,
        mode: WeightsMode,
        *,
        limit: WorkLimit,
        on_progress: Progress | None = None,
    ) -> NumpyRunner:
        """Dequantise the weights; see ``Backend.prepare``."""
        return NumpyRunner(spec, ModelWeights(spec, source, mode, limit, on_progress))
