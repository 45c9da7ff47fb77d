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
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

VARIABLE: Final = "SMALLMIND_CACHE_DIR"
PACKAGE: Final = Path(__file__).parent
"""The folder whose source files the kernels are made of."""

PACKING: Final = PACKAGE.parent / "packing"
"""The folder that says how weights lie in memory, which kernels have built in."""

UNUSED_S: Final = 30 * 24 * 3600.0
"""Age at which the folder of another key is deleted."""

_OPTIONS: Final = (
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "BOUNDSCHECK",
    "DEBUGINFO_DEFAULT",
    "USING_SVML",
)
"""Settings of Numba that machine code depends on."""

_TOUCH_S: Final = 24 * 3600.0  # often enough to keep a folder that is in use
_KEY_LENGTH: Final = 24
_KEY: Final = re.compile(rf"[0-9a-f]{{{_KEY_LENGTH}}}")


def cache_root(
    environment: Mapping[str, str] = os.environ, platform: str = sys.platform
) -> Path | None:
    """``$SMALLMIND_CACHE_DIR``, else smallmind's folder in the user's cache folder.

    It is the folder that ``platformdirs`` names, which the engine does not require.

    Args:
        environment: the variables to look into.
        platform: as in ``sys.platform``.

    Returns:
        A path that need not exist; None when the user has no home directory.
    """
    chosen = environment.get(VARIABLE)
    try:
        if chosen:
            return Path(chosen).expanduser()
        if platform == "win32":
            local = environment.get("LOCALAPPDATA")
            base = Path(local) if local else Path.home() / "AppData" / "Local"
            return base / "smallmind" / "Cache"
        xdg = environment.get("XDG_CACHE_HOME", "").strip()
        if Path(xdg).is_absolute():
            return Path(xdg) / "smallmind"
        caches = Path("Library", "Caches") if platform == "darwin" else Path(".cache")
        return Path.home() / caches / "smallmind"
    except RuntimeError:  # pathlib's way to say that there is no home directory
        return None


def source_digest(package: Path = PACKAGE) -> str:
    """SHA-256 over the names and contents of all Python files of a folder, in hex.

    Raises:
        OSError: there are none, or they cannot be read (such as in a zip archive).
    """
    files = sorted(package.rglob("*.py"))
    if not files:
        raise FileNotFoundError(f"no source files in {package}")
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        name = file.relative_to(package).as_posix()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def cache_key(tier: str, package: Path = PACKAGE) -> str:
    """The key of kernels that are compiled now, here, from ``package`` and the packed layouts.

    Raises:
        OSError: the sources cannot be read.
    """
    import llvmlite
    import numba
    from numba.core import config
    from numba.core.registry import cpu_target

    # Triple, CPU and features; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are in it.
    target: tuple[Any, ...] = cpu_target.target_context.codegen().magic_tuple()
    settings = [getattr(config, option) for option in _OPTIONS]
    parts = (
        source_digest(package),
        source_digest(PACKING),
        numba.__version__,
        llvmlite.__version__,
        sys.implementation.cache_tag,
        *sys.version_info[:3],
        getattr(sys, "abiflags", ""),
        *target,
        *settings,
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
