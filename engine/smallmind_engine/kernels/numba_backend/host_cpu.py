"""What LLVM calls this machine's processor and what it can do, remembered on disk.

Asking LLVM takes its library, which takes 45 MB and 60 ms, more than all else that a model whose
kernels are on disk would need it for. What is remembered holds for the same processor, as the
system describes it, the same kind of process, and the same LLVM.
"""

from __future__ import annotations

import hashlib
import json
import platform
import struct
import sysconfig
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from smallmind_engine.kernels.numba_backend.cache_root import cache_root
from smallmind_engine.kernels.numba_backend.whole_file import write_whole
from smallmind_engine.kernels.preloading import preload_compiler

_FILE: Final = "host-cpu.json"
_PROC: Final = Path("/proc/cpuinfo")
_CHANGING: Final = (
    *("processor", "cpu MHz", "clock", "bogomips", "initial apicid", "apicid", "core id"),
)
"""Lines of the system's description that say nothing of what a processor can do."""


@dataclass(frozen=True, slots=True)
class HostCpu:
    """A processor in LLVM's words.

    Attributes:
        triple: of the process, such as ``x86_64-unknown-linux-gnu``.
        name: such as ``znver3``.
        features: whether it has each; empty where LLVM does not know.
    """

    triple: str
    name: str
    features: dict[str, bool]


@cache
def host_cpu() -> HostCpu:
    """The processor of this machine."""
    key, root = _description_key(), cache_root()
    path = None if key is None or root is None else root / _FILE
    if path is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["key"] == key:
                return _from_json(kept)
    found = asked_of_llvm()
    if path is not None:
        with suppress(OSError):  # it is only asked again
            write_whole(path, json.dumps({"key": key, **asdict(found)}).encode())
    return found


def asked_of_llvm() -> HostCpu:
    """The same without looking at what is remembered."""
    preload_compiler()
    from llvmlite import binding

    try:
        features = dict(binding.get_host_cpu_features())
    except RuntimeError:  # LLVM does not know this kind of machine
        features = {}
    return HostCpu(binding.get_process_triple(), binding.get_host_cpu_name(), features)


def _from_json(kept: dict[str, object]) -> HostCpu:
    triple, name, features = kept["triple"], kept["name"], kept["features"]
    if not (isinstance(triple, str) and isinstance(name, str) and isinstance(features, dict)):
        raise TypeError
    return HostCpu(triple, name, {str(key): bool(value) for key, value in features.items()})


def _description_key() -> str | None:
    """A hash of how the system describes the first processor; None where it does not."""
    try:
        text = _PROC.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    first = text.split("\n\n", 1)[0]
    lines = [line for line in first.splitlines() if not line.startswith(_CHANGING)]
    if not lines:
        return None
    # What shares the folder may be a process of another kind on the same machine.
    process = (platform.machine(), str(struct.calcsize("P")), sysconfig.get_platform())
    soabi = str(sysconfig.get_config_var("SOABI"))
    described = "\n".join([version("llvmlite"), *process, soabi, *lines])
    return hashlib.sha256(described.encode()).hexdigest()
