"""Run as a program by ``compile_apart``: compile kernels, and leave them on disk.

Its argument is JSON: ``tier``, and names of ``layouts`` and of ``kinds`` of KV caches.
"""

from __future__ import annotations

import json

from smallmind_engine.cache import KVType
from smallmind_engine.kernels.numba_backend.compile_cache import compile_kernels
from smallmind_engine.kernels.numba_backend.isa import IsaTier
from smallmind_engine.kernels.numba_backend.kernel_table import all_layouts, kernel_sources
from smallmind_engine.kernels.packing import SPLIT_Q8_0


def main(request: str) -> None:
    """Do what the module says."""
    asked = json.loads(request)
    known = {layout.name: layout for layout in (*all_layouts(), SPLIT_Q8_0)}
    tier = IsaTier(asked["tier"])
    layouts = [known[name] for name in asked["layouts"]]
    kinds = [KVType(name) for name in asked["kinds"]]
    compile_kernels(kernel_sources(tier, layouts, kinds), tier=tier)
