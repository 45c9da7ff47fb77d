"""The folder that everything is kept below which is made once for a machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "SMALLMIND_CACHE_DIR"


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
