"""Callers inside the engine: it closes when each has told how its request ended."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PATIENCE_S: Final = 2.0
_PAUSE_S: Final = 0.002


class Arrivals:
    """Counts callers between the beginning of their work and the telling of its end. Thread-safe.

    A request that is turned away, or that is not in the queue yet, is known to nobody else.
    """

    def __init__(self) -> None:
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Begin with a free lock and nobody inside, as in a forked child."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._inside: dict[object, int] = {}  # threads by what stands for each stay
        # Re-entrant: an exporter may call the engine in the middle of a refusal.
        self._turnstile = threading.RLock()
        self._crowd: set[object] = set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be inside for the ``with`` block."""
        stay = object()
        try:
            with self._lock:
                self._inside[stay] = threading.get_ident()
            yield
        finally:
            with self._lock:
                self._inside.pop(stay, None)  # in a forked child it is not there
                self._changed.notify_all()

    @contextmanager
    def one_by_one(self, *, crowded: bool) -> Iterator[None]:
        """Let one caller at a time through the ``with`` block when it is crowded, with pauses.

        Those who wait do so outside of the interpreter. A crowd that is turned away, and asks again
        at once, would else take it from the scheduler, and a core from the kernels.
        """
        if not crowded or _in_event_loop():  # a loop is a single thread, which must not wait
            yield
            return
        turnstile, waits = self._turnstile, object()  # in a forked child it is another
        try:
            self._crowd.add(waits)
            turnstile.acquire(timeout=_PATIENCE_S)
            self._crowd.discard(waits)
            try:
                yield
            finally:
                if self._crowd:
                    time.sleep(_PAUSE_S)
        finally:
            # First of all: Ctrl-C may come behind each call. It may also have come right before
            # or behind the acquiring, so that only the lock knows whether it is held here.
            try:  # noqa: SIM105 - which would be more calls
                turnstile.release()
            except RuntimeError:
                pass
            self._crowd.discard(waits)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until those have left who are inside now, but the caller; whether they have.

        Who comes later is not waited for, or callers who ask again and again would never let it
        end.
        """
        me = threading.get_ident()
        with self._lock:
            others = {stay for stay, thread in self._inside.items() if thread != me}
            return self._changed.wait_for(lambda: not others & self._inside.keys(), timeout_s)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
