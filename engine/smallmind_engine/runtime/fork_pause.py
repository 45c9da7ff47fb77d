"""A lock between a thread that works without rest and threads that fork the process."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final

_TIMEOUT_S: Final = 5.0
_YIELD_S: Final = 0.0005


class ForkPause:
    """Held by a thread for rounds of its work; a fork comes in between two rounds.

    Attributes:
        wanted: whether a fork waits; between two rounds the thread lets go then.
        was_halted: whether the last fork did come in between; it does not wait for ever.
    """

    def __init__(self) -> None:
        self.was_halted = False
        self._held: list[threading.RLock] = []
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Begin with a free lock, as in a forked child; a round that forked ends with the old."""
        self._lock = threading.RLock()
        self.wanted = False

    def __enter__(self) -> None:
        while self.wanted:  # or the lock would be taken again before the other thread wakes up
            time.sleep(_YIELD_S)
        lock = self._lock
        lock.acquire()
        self._held.append(lock)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.pop().release()

    def before_fork(self) -> None:
        """Wait for the end of a round. Threads that fork come one after the other."""
        self.was_halted, self.wanted = False, True
        try:  # a signal's handler may raise here
            self.was_halted = self._lock.acquire(timeout=_TIMEOUT_S)
        finally:
            self.wanted = False

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self.was_halted:
            self._lock.release()
