"""The NumPy backend: dequantises weights to float32 and leaves the products to BLAS."""

from __future__ import annotations

from functools import partial
from typing import Final

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.backend import (
    PrepareRequest,
    Progress,
    ScratchRequest,
    WeightsMode,
    refuse_choice,
)
from smallmind_engine.kernels.ceilings import MEASURED, numpy_ceilings, usable_cores
from smallmind_engine.kernels.numpy_backend.footprint import largest_tensor, scratch_bytes
from smallmind_engine.kernels.numpy_backend.model_weights import (
    ModelWeights,
    layer_bytes,
    resident_bytes,
)
from smallmind_engine.kernels.numpy_backend.transformer import NumpyRunner, step_tokens
from smallmind_engine.kernels.spec import TransformerSpec, WeightSource

_FLOAT_BYTES: Final = 4


class NumpyBackend:
    """Always there; the reference that other backends are held against."""

    name: Final = "numpy"
    modes: Final = (WeightsMode.RESIDENT, WeightsMode.PER_LAYER)
    kv_types: Final = (KVType.F32,)
    kernels_bytes: Final = 0

    def runs(self, spec: TransformerSpec) -> bool:
        """Everything runs here."""
        del spec
        return True

    def weight_bytes(self, spec: TransformerSpec, source: WeightSource, mode: WeightsMode) -> int:
        """Memory that ``prepare`` would take for good."""
        if mode is WeightsMode.RESIDENT:
            return resident_bytes(spec, source)
        return layer_bytes(spec)

    def kv_bytes_per_token(self, spec: TransformerSpec, kv_type: KVType | None) -> int:
        """Memory of one token in a KV cache over all layers."""
        del kv_type  # there is one
        return spec.kv_values_per_token * _FLOAT_BYTES

    def scratch_bytes(self, spec: TransformerSpec, request: ScratchRequest) -> int:
        """Memory that a step takes at most for what it computes in between."""
        return scratch_bytes(spec, request, step_tokens(spec))

    def largest_tensor(
        self, spec: TransformerSpec, source: WeightSource, mode: WeightsMode
    ) -> tuple[str, int]:
        """Name and bytes of the largest tensor that it holds in one piece."""
        return largest_tensor(spec, source, mode)

    def prepare(
        self, spec: TransformerSpec, source: WeightSource, request: PrepareRequest
    ) -> NumpyRunner:
        """Dequantise the weights; see ``Backend.prepare``."""
        if request.kv_type not in {None, KVType.F32}:
            raise refuse_choice("kv_cache_type", str(request.kv_type), self.name, [KVType.F32])
        if request.on_ceilings is not None:
            request.on_ceilings(MEASURED.get(self.name, usable_cores(), numpy_ceilings))
        tell = request.on_progress
        progress: Progress | None = None
        if tell is not None:
            progress = partial(tell, "weights")
        weights = ModelWeights(spec, source, request.mode, request.limit, progress)
        return NumpyRunner(spec, weights)
