"""Holding the cycle collector off while many objects are made that stay.

A vocabulary is tens of thousands of them, at which the collector looks again and again and finds
no garbage: a fifth of the time that a small model takes to load.
"""

from __future__ import annotations

import gc
import threading
from types import TracebackType
from typing import Final

from smallmind_engine.telemetry.fork import renew_in_child


class CollectorPause:
    """No automatic collection within ``with``. Thread-safe; pauses may overlap.

    A collector that was off stays off.
    """

    def __init__(self) -> None:
        self._resumes = False
        self._begin_anew()
        renew_in_child(self)

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            # In this order: wherever a signal's handler raises, the collector comes back.
            if not self._inside:
                self._resumes = gc.isenabled()
            self._inside += 1
            gc.disable()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            if self._inside <= 1 and self._resumes:
                gc.enable()
            self._inside = max(self._inside - 1, 0)

    def begin_in_child(self) -> None:
        """A forked child has none of the threads that were inside, but perhaps this one."""
        paused = self._inside > 0
        self._begin_anew()
        if paused and self._resumes:
            gc.enable()


COLLECTOR_PAUSE: Final = CollectorPause()
"""The one of this process, as there is one collector."""
