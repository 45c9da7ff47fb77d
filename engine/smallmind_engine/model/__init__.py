"""The model: from a GGUF file's metadata to something that runs."""

from smallmind_engine.model.architectures import ARCHITECTURES, transformer_spec
from smallmind_engine.model.load_options import LoadOptions, kept_prefix_tokens
from smallmind_engine.model.loader import LoadedModel, load_model
from smallmind_engine.model.memory_planning import PlannedRun, plan_run
from smallmind_engine.model.weight_source import GgufWeights

__all__ = [
    "ARCHITECTURES",
    "GgufWeights",
    "LoadOptions",
    "LoadedModel",
    "PlannedRun",
    "kept_prefix_tokens",
    "load_model",
    "plan_run",
    "transformer_spec",
]
