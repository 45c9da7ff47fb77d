"""Kernels: what a backend has to compute, and the backends that do."""

from smallmind_engine.kernels.backend import (
    Backend,
    Chunk,
    LogitsWanted,
    ModelRunner,
    Progress,
    WeightsMode,
)
from smallmind_engine.kernels.registry import backend_names, get_backend
from smallmind_engine.kernels.spec import (
    Activation,
    FloatArray,
    IntArray,
    LayerSpec,
    NormKind,
    RopeLayout,
    RopeTable,
    TransformerSpec,
    WeightSource,
)

__all__ = [
    "Activation",
    "Backend",
    "Chunk",
    "FloatArray",
    "IntArray",
    "LayerSpec",
    "LogitsWanted",
    "ModelRunner",
    "NormKind",
    "Progress",
    "RopeLayout",
    "RopeTable",
    "TransformerSpec",
    "WeightSource",
    "WeightsMode",
    "backend_names",
    "get_backend",
]
