"""What a measurement ran on: processor, memory, system and versions."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
PACKAGES = ("smallmind", "numpy", "numba", "llvmlite", "llama-cpp-python")
FLAGS = (
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_vbmi",
    "amx_tile",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "sve",
)
"""Instruction sets that the kernels of either engine choose by."""


def machine_description() -> dict[str, object]:
    """For a report; a fact that the platform does not tell is None."""
    facts = _cpu_facts()
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_bytes": _memory_bytes(),
        "system": _system(),
        "python": platform.python_version(),
        "blas": _blas(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def today() -> str:
    """The date and time, in UTC."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _system() -> str:
    """The system and its kernel, without what the builder of the kernel added."""
    kernel = f"{platform.system()} {platform.release().partition('-')[0]}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def _cpu_facts() -> dict[str, str]:
    """The facts of the first processor."""
    try:
        first = CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _memory_bytes() -> int | None:
    try:
        lines = MEMINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if "MemTotal" in line), None)


def _blas() -> str:
    config = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{config['name']} {config['version']}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
