"""The CPU that Numba compiles for, found out without importing Numba.

Numba asks LLVM, and listens to its settings in environment variables and in a file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from smallmind_engine.kernels.numba_backend.host_cpu import host_cpu

_PREFIX: Final = "NUMBA_"
_SETTINGS_FILE: Final = Path(".numba_config.yaml")  # where Numba looks for it

_WITHOUT_AVX: Final = frozenset({"corei7-avx", "core-avx-i", "sandybridge", "ivybridge", "nocona"})
"""Processors for which Numba leaves AVX alone unless it is told otherwise."""


def numba_settings() -> tuple[str, ...]:
    """All that Numba is told by its environment; machine code may depend on any of it."""
    variables = sorted(
        f"{name}={value}" for name, value in os.environ.items() if name.startswith(_PREFIX)
    )
    try:
        written = _SETTINGS_FILE.read_text(encoding="utf-8")
    except (OSError, ValueError):
        written = ""
    return (*variables, written)


def cpu_name() -> str:
    """LLVM's name of the CPU that is compiled for."""
    return os.environ.get("NUMBA_CPU_NAME") or host_cpu().name


def target_features() -> str:
    """LLVM's list of features, such as ``+avx2,-avx512f``, that code may use."""
    chosen = os.environ.get("NUMBA_CPU_FEATURES")
    if chosen is not None:
        return chosen
    if os.environ.get("NUMBA_CPU_NAME", "").lower() == "generic":
        return ""
    off = () if _uses_avx() else ("avx",)
    return ",".join(
        f"{'+' if has and not name.startswith(off) else '-'}{name}"
        for name, has in sorted(host_cpu().features.items())
    )


def _uses_avx() -> bool:
    told = os.environ.get("NUMBA_ENABLE_AVX", "")
    return told != "0" if told else cpu_name() not in _WITHOUT_AVX


def target_machine() -> tuple[str, str, str]:
    """Triple, CPU and features that machine code is made for."""
    return host_cpu().triple, cpu_name(), target_features()
