"""The quantised types of GGUF tensors: their blocks, and how to decode them."""

from smallmind_engine.gguf.quants.decode import dequantize, swap_bytes
from smallmind_engine.gguf.quants.layouts import LAYOUTS
from smallmind_engine.gguf.quants.quant_types import QuantLayout, QuantType

__all__ = ["LAYOUTS", "QuantLayout", "QuantType", "dequantize", "swap_bytes"]
