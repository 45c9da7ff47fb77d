"""What the process uses, as far as the platform tells."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_STATM: Final = Path("/proc/self/statm")
_STATUS: Final = Path("/proc/self/status")
_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Resident memory of this process.

    Attributes:
        resident_bytes: all of it.
        anonymous_bytes: its own, which only it can give back.
        file_bytes: mapped from files, such as libraries and model files; the system takes such
            pages back when memory is short.
        peak_bytes: most that was ever resident.
    """

    resident_bytes: int
    anonymous_bytes: int
    file_bytes: int
    peak_bytes: int


def process_memory() -> ProcessMemory | None:
    """What is resident now, and of what kind; None where the platform does not tell."""
    try:
        lines = _STATUS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    try:
        sizes = [int(values[key].split()[0]) * _KIB for key in _STATUS_KEYS]
    except (KeyError, IndexError, ValueError):
        return None
    return ProcessMemory(*sizes)


_STATUS_KEYS: Final = ("VmRSS", "RssAnon", "RssFile", "VmHWM")


def rss_bytes() -> int | None:
    """Resident memory of this process now; None where the platform does not tell."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_rss_bytes() -> int | None:
    """Highest resident memory so far; None where the platform does not tell."""
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIB
