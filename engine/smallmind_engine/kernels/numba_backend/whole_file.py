"""Writing a file that others may read meanwhile."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, and its folder if need be; readers see all of it or nothing.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        os.replace(draft, path)  # noqa: PTH105 - atomic
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
