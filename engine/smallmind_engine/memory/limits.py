"""How much memory there is: the container's limit, the machine's, or what the user allows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from smallmind_engine.memory.cgroups import group_limits

_KIB: Final = 1024

HEADROOM: Final = 0.9
"""Share of the free memory that is planned with when nobody set a limit."""


class LimitSource(StrEnum):
    """Where a limit comes from."""

    OPTION = "option"
    CGROUP_V1 = "cgroup_v1"
    CGROUP_V2 = "cgroup_v2"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit, and what is taken of it already.

    Attributes:
        source: where it comes from.
        total_bytes: the limit.
        used_bytes: taken by this process and all others that it holds for, without what the
            system would give up.
        place: the file or folder that tells it; empty for an option.
    """

    source: LimitSource
    total_bytes: int
    used_bytes: int = 0
    place: str = ""

    @property
    def free_bytes(self) -> int:
        """What can still be taken."""
        return max(0, self.total_bytes - self.used_bytes)

    @property
    def budget_bytes(self) -> int:
        """What an engine may plan with: all of an option, and most of what the system has."""
        if self.source is LimitSource.OPTION:
            return self.total_bytes
        return int(self.free_bytes * HEADROOM)


def system_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """The limit that leaves least: of the containers around this process, or of the machine.

    Args:
        root: where ``proc`` and ``sys`` are.

    Returns:
        None where the platform tells neither.
    """
    sources = {1: LimitSource.CGROUP_V1, 2: LimitSource.CGROUP_V2}
    found = [
        MemoryLimit(sources[each.version], each.limit_bytes, each.used_bytes, str(each.path))
        for each in group_limits(root)
    ]
    host = _host_limit(root)
    if host is not None:
        found.append(host)
    return min(found, key=lambda limit: limit.free_bytes, default=None)


def effective_limit(max_memory_bytes: int | None, root: Path = Path("/")) -> MemoryLimit | None:
    """The user's own limit; the system's without one."""
    if max_memory_bytes is not None:
        return MemoryLimit(LimitSource.OPTION, max_memory_bytes)
    return system_limit(root)


def available_bytes(root: Path = Path("/")) -> int | None:
    """Memory that can be taken without swapping, within all limits; None where unknown."""
    limit = system_limit(root)
    return None if limit is None else limit.free_bytes


def _host_limit(root: Path) -> MemoryLimit | None:
    path = root / "proc/meminfo"
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    values = {name: rest.split()[:1] for name, _, rest in (line.partition(":") for line in lines)}
    sizes = [values.get(name) for name in ("MemTotal", "MemAvailable")]
    if not all(size and size[0].isdecimal() for size in sizes):
        return None
    total, available = (int(size[0]) * _KIB for size in sizes if size)
    return MemoryLimit(LimitSource.HOST, total, total - available, str(path))
