"""The model: from a GGUF file's metadata to something that runs."""

from smallmind_engine.model.architectures import ARCHITECTURES, transformer_spec
from smallmind_engine.model.loader import LoadedModel, LoadOptions, load_model
from smallmind_engine.model.weight_source import GgufWeights

__all__ = [
    "ARCHITECTURES",
    "GgufWeights",
    "LoadOptions",
    "LoadedModel",
    "load_model",
    "transformer_spec",
]
