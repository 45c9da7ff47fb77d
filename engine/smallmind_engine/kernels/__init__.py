"""Kernels: what a backend has to compute, and the backends that do."""

from smallmind_engine.kernels.backend import (
    Backend,
    BestToken,
    Chunk,
    LogitsWanted,
    ModelRunner,
    OnOperations,
    OperationTime,
    Output,
    PrepareRequest,
    Progress,
    WeightsMode,
)
from smallmind_engine.kernels.ceilings import Ceilings
from smallmind_engine.kernels.compile_report import CompileProgress, CompileReport
from smallmind_engine.kernels.registry import (
    AUTO,
    BackendChoice,
    backend_names,
    choose_backend,
    get_backend,
    prepare_kernels,
)
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
    "AUTO",
    "Activation",
    "Backend",
    "BackendChoice",
    "BestToken",
    "Ceilings",
    "Chunk",
    "CompileProgress",
    "CompileReport",
    "FloatArray",
    "IntArray",
    "LayerSpec",
    "LogitsWanted",
    "ModelRunner",
    "NormKind",
    "OnOperations",
    "OperationTime",
    "Output",
    "PrepareRequest",
    "Progress",
    "RopeLayout",
    "RopeTable",
    "TransformerSpec",
    "WeightSource",
    "WeightsMode",
    "backend_names",
    "choose_backend",
    "get_backend",
    "prepare_kernels",
]
