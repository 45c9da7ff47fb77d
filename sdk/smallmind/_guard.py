"""The guard of objects that belong to one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from smallmind_engine.telemetry.errors import ConcurrentSessionUseError
from smallmind_engine.telemetry.reasons import ReasonCode


class SingleUseGuard:
    """Raises at once when a second user comes in while a first one is inside.

    Args:
        name: of the guarded thing, for the error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._owner = ""

    def enter(self) -> None:
        """Come in.

        Raises:
            ConcurrentSessionUseError: somebody is inside.
        """
        if not self._lock.acquire(blocking=False):
            here = threading.current_thread().name
            raise ConcurrentSessionUseError(
                ReasonCode.SESSION_CONCURRENT_USE,
                f"{self._name} is in use by thread {self._owner!r}; thread {here!r} came in",
                hint="give each thread a session of its own, and finish a stream before the next",
                owner=self._owner,
                intruder=here,
            )
        self._owner = threading.current_thread().name

    def leave(self) -> None:
        """Go out."""
        self._owner = ""
        self._lock.release()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Be inside for the ``with`` block."""
        self.enter()
        try:
            yield
        finally:
            self.leave()
