"""A lock between processes, so that two pulls of one model do not get into each other's way."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from smallmind_engine.control import WorkLimit

_RETRY_S: Final = 0.02

if sys.platform == "win32":  # pragma: no cover - the other platform's half
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def exclusive(path: Path, limit: WorkLimit) -> Iterator[None]:
    """Hold the lock file ``path``; the system frees it even when the process is killed.

    The file stays when the lock is released: to delete it would let two holders in.

    Raises:
        OperationCancelledError: ``limit`` was reached while another process held the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _try_lock(descriptor):
            limit.check(f"waiting for another process that pulls {path.stem}")
            time.sleep(_RETRY_S)
        yield
    finally:
        os.close(descriptor)
