"""GGUF: the container format of models, and the quantised types in it."""

from smallmind_engine.gguf.file import GgufFile
from smallmind_engine.gguf.header import Header, read_header
from smallmind_engine.gguf.metadata import (
    MetadataValue,
    get_bool,
    get_float,
    get_int,
    get_str,
    require_int,
    require_str,
)
from smallmind_engine.gguf.quants import (
    LAYOUTS,
    QuantLayout,
    QuantType,
    dequantize,
    swap_bytes,
)
from smallmind_engine.gguf.tensors import TensorInfo

__all__ = [
    "LAYOUTS",
    "GgufFile",
    "Header",
    "MetadataValue",
    "QuantLayout",
    "QuantType",
    "TensorInfo",
    "dequantize",
    "get_bool",
    "get_float",
    "get_int",
    "get_str",
    "read_header",
    "require_int",
    "require_str",
    "swap_bytes",
]
