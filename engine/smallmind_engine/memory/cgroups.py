"""The memory limit of the container this process runs in, as control groups tell it.

Both versions are read, with the limits of all groups above: the tightest one counts. Sources:
the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; proc(5) for
``/proc/self/cgroup`` and ``mountinfo``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

_UNLIMITED_V1: Final = 1 << 60
"""Version 1 writes the largest number of pages for "no limit"; no machine has an exbibyte."""

_MOUNT_FIELDS: Final = 6  # before the optional ones, which end with a dash


@dataclass(frozen=True, slots=True)
class GroupLimit:
    """A limit of one control group.

    Attributes:
        version: of control groups, 1 or 2.
        path: folder of the group.
        limit_bytes: what all its processes may take together.
        used_bytes: what they take and the kernel cannot take back: the page cache that is not in
            use is left out.
    """

    version: int
    path: Path
    limit_bytes: int
    used_bytes: int


@dataclass(frozen=True, slots=True)
class _Files:
    """Names of a version's files, and the line that tells what can be taken back."""

    limits: tuple[str, ...]
    usage: str
    reclaimable: str


_V1: Final = _Files(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
_V2: Final = _Files(("memory.max", "memory.high"), "memory.current", "inactive_file")


def group_limits(root: Path = Path("/")) -> tuple[GroupLimit, ...]:
    """All limits that hold for this process; none where there are no control groups.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    return tuple(
        limit
        for version, top, group in _groups(root)
        for folder in _with_parents(top, group)
        for limit in _limits_of(version, folder)
    )


def _groups(root: Path) -> Iterator[tuple[int, Path, PurePosixPath]]:
    """Version, mount point, and place below it of the groups that may limit memory."""
    places = _places(_text(root / "proc/self/cgroup"))
    for line in _text(root / "proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        mount, kind = fields.split(" "), rest.split(" ")
        if len(mount) < _MOUNT_FIELDS or len(kind) < 3:
            continue
        version = {"cgroup": 1, "cgroup2": 2}.get(kind[0])
        if version is None or (version == 1 and "memory" not in kind[2].split(",")):
            continue
        place = places.get(version)
        if place is not None:
            top = root / _unescaped(mount[4]).lstrip("/")
            yield version, top, _below(place, PurePosixPath(_unescaped(mount[3])))


def _places(text: str) -> dict[int, PurePosixPath]:
    """This process's group by version: lines such as ``4:memory:/a`` and ``0::/b``."""
    places: dict[int, PurePosixPath] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            places[2] = PurePosixPath(path)
        elif "memory" in controllers.split(","):
            places[1] = PurePosixPath(path)
    return places


def _below(place: PurePosixPath, mounted: PurePosixPath) -> PurePosixPath:
    """Where a group lies below a mount point that shows the tree from ``mounted`` on.

    A container without a namespace of its own is told a path that it cannot see: what is mounted
    for it is its own group then.
    """
    try:
        return place.relative_to(mounted)
    except ValueError:
        return PurePosixPath()


def _with_parents(top: Path, group: PurePosixPath) -> Iterator[Path]:
    """The group's folder and those above it, up to the mount point."""
    if ".." in group.parts:  # outside of this process's namespace
        group = PurePosixPath()
    parts = [part for part in group.parts if part != "/"]
    for count in range(len(parts), -1, -1):
        yield top.joinpath(*parts[:count])


def _limits_of(version: int, folder: Path) -> Iterator[GroupLimit]:
    files = _V1 if version == 1 else _V2
    limits = [_number(folder / name) for name in files.limits]
    known = [limit for limit in limits if limit is not None and limit < _UNLIMITED_V1]
    if known:
        used = (_number(folder / files.usage) or 0) - _reclaimable(folder, files.reclaimable)
        yield GroupLimit(version, folder, min(known), max(0, used))


def _reclaimable(folder: Path, name: str) -> int:
    for line in _text(folder / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    """A file's only number; None for ``max``, for anything else, and without the file."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not there, or not for us to read: no limit that we could know of
        return ""


def _unescaped(text: str) -> str:
    r"""A path of mountinfo, in which blanks and backslashes are written as ``\040``."""
    for octal, char in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(octal, char)
    return text
