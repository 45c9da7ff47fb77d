"""Where compiled kernels are kept on disk, and under which key.

``<cache root>/kernels/<key>/``: the key is a hash of everything that the machine code depends on.
Other code means another folder, so nothing in a folder ever has to be compared or replaced.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Final

from smallmind_engine.kernels.numba_backend.target_cpu import numba_settings, target_machine

PACKAGE: Final = Path(__file__).parent / "emit"
"""The folder whose source files the kernels are made of."""

_BUILT_IN: Final = (
    *(Path(__file__).parent / name for name in ("isa.py", "records.py", "step.py")),
    *sorted((Path(__file__).parents[1] / "packing").glob("*.py")),
)
"""Files that say how the data of kernels lies in memory, which they have built in."""

UNUSED_S: Final = 30 * 24 * 3600.0
"""Age at which the folder of another key is deleted."""

_TOUCH_S: Final = 24 * 3600.0  # often enough to keep a folder that is in use
_KEY_LENGTH: Final = 24
_KEY: Final = re.compile(rf"[0-9a-f]{{{_KEY_LENGTH}}}")


def source_digest(package: Path = PACKAGE) -> str:
    """SHA-256 over the names and contents of all Python files of a folder, in hex.

    Raises:
        OSError: there are none, or they cannot be read (such as in a zip archive).
    """
    files = sorted(package.rglob("*.py"))
    if not files:
        raise FileNotFoundError(f"no source files in {package}")
    return _digest((file.relative_to(package).as_posix(), file) for file in files)


def _digest(named: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, file in named:
        content = file.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def cache_key(tier: str, package: Path = PACKAGE) -> str:
    """The key of kernels that are compiled now, here, from ``package``.

    Raises:
        OSError: the sources cannot be read.
    """
    parts = (
        source_digest(package),
        _digest((file.name, file) for file in _BUILT_IN),
        version("numba"),
        version("llvmlite"),
        sys.implementation.cache_tag,
        *sys.version_info[:3],
        getattr(sys, "abiflags", ""),
        *target_machine(),
        *numba_settings(),
        tier,
    )
    text = "\0".join(str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


def mark_used(directory: Path) -> None:
    """Note that the folder of a key is in use, best effort."""
    with suppress(OSError):
        if time.time() - directory.stat().st_mtime > _TOUCH_S:
            os.utime(directory)


def remove_unused(kernels: Path, keep: str, unused_s: float = UNUSED_S) -> list[str]:
    """Delete the folders of other keys that were not used for long, best effort.

    Args:
        kernels: the folder of all keys.
        keep: the key in use.
        unused_s: seconds since the last use.

    Returns:
        The keys that are gone.
    """
    oldest = time.time() - unused_s
    gone = []
    with suppress(OSError):
        for folder in kernels.iterdir():
            if folder.name == keep or not _KEY.fullmatch(folder.name):
                continue
            with suppress(OSError):
                if folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder)
                    gone.append(folder.name)
    return gone
