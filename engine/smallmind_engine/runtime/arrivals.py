"""Callers inside the engine: it closes when each has told how its request ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Arrivals:
    """Counts callers between the beginning of their work and the telling of its end. Thread-safe.

    A request that is turned away, or that is not in the queue yet, is known to nobody else.
    """

    def __init__(self) -> None:
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Begin with a free lock and nobody inside, as in a forked child."""
        self._changed = threading.Condition(threading.RLock())
        self._inside: list[int] = []

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be inside for the ``with`` block."""
        me = threading.get_ident()
        with self._changed:
            self._inside.append(me)
        try:
            yield
        finally:
            with self._changed:
                if me in self._inside:  # not in a forked child
                    self._inside.remove(me)
                self._changed.notify_all()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until nobody but the caller is inside; whether that came about."""
        me = threading.get_ident()
        with self._changed:
            return self._changed.wait_for(
                lambda: all(other == me for other in self._inside), timeout_s
            )
