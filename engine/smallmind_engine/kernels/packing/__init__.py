"""Weights in the form that compiled kernels read: layouts, packing, and reading back."""

from smallmind_engine.kernels.packing.layouts import (
    LAYOUTS,
    SPLIT_Q8_0,
    PackedLayout,
    PackedPlanes,
    layout_of,
    planes,
)
from smallmind_engine.kernels.packing.pack import pack_matrix
from smallmind_engine.kernels.packing.unpack import IQ4_VALUES, unpack_matrix

__all__ = [
    "IQ4_VALUES",
    "LAYOUTS",
    "SPLIT_Q8_0",
    "PackedLayout",
    "PackedPlanes",
    "layout_of",
    "pack_matrix",
    "planes",
    "unpack_matrix",
]
