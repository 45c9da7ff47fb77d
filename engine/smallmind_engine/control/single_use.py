"""The guard of objects that belong to one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from smallmind_engine.telemetry.errors import ConcurrentSessionUseError
from smallmind_engine.telemetry.reasons import ReasonCode


class SingleUseGuard:
    """Raises at once when a second user comes in while a first one is inside. Thread-safe.

    Args:
        name: of the guarded thing, for the error.
    """

    __slots__ = ("_inside", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        # Setting the only key if it is missing is one step, and tells who was there before.
        self._inside: dict[None, list[threading.Thread]] = {}

    @property
    def is_here(self) -> bool:
        """Whether the thread that asks is inside."""
        inside = self._inside.get(None)
        return inside is not None and inside[0] is threading.current_thread()

    def enter(self) -> None:
        """Come in.

        Raises:
            ConcurrentSessionUseError: somebody is inside.
        """
        mine = [threading.current_thread()]
        inside = self._inside.setdefault(None, mine)
        if inside is not mine:
            owner, here = inside[0].name, mine[0].name
            raise ConcurrentSessionUseError(
                ReasonCode.SESSION_CONCURRENT_USE,
                f"{self._name} is in use by thread {owner!r}; thread {here!r} came in",
                hint="give each thread a session of its own, and finish a stream before the next",
                owner=owner,
                intruder=here,
            )

    def leave(self) -> None:
        """Go out."""
        del self._inside[None]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Be inside for the ``with`` block."""
        self.enter()
        try:
            yield
        finally:
            self.leave()
