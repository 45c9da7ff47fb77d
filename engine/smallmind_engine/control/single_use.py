"""The guard of objects that belong to one thread at a time."""

from __future__ import annotations

import threading

from smallmind_engine.telemetry.errors import ConcurrentSessionUseError
from smallmind_engine.telemetry.reasons import ReasonCode

_Visitor = list[threading.Thread]
"""One thread, in a list that is like no other."""


class SingleUseGuard:
    """Raises at once when a second user comes in while a first one is inside. Thread-safe.

    Args:
        name: of the guarded thing, for the error.
    """

    __slots__ = ("_inside", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        # Setting the only key if it is missing is one step, and tells who was there before.
        self._inside: dict[None, _Visitor] = {}

    @property
    def is_here(self) -> bool:
        """Whether the thread that asks is inside."""
        inside = self._inside.get(None)
        return inside is not None and inside[0] is threading.current_thread()

    def enter(self) -> _Visitor:
        """Come in.

        Returns:
            What stands for this stay.

        Raises:
            ConcurrentSessionUseError: somebody is inside.
        """
        mine = [threading.current_thread()]
        try:
            inside = self._inside.setdefault(None, mine)
        except BaseException:  # Ctrl-C, which may come when that is done
            if self._inside.get(None) is mine:
                del self._inside[None]
            raise
        if inside is not mine:
            owner, here = inside[0].name, mine[0].name
            raise ConcurrentSessionUseError(
                ReasonCode.SESSION_CONCURRENT_USE,
                f"{self._name} is in use by thread {owner!r}; thread {here!r} came in",
                hint="give each thread a session of its own, and finish a stream before the next",
                owner=owner,
                intruder=here,
            )
        return mine

    def leave(self, visitor: _Visitor | None = None) -> None:
        """Go out; with a visitor only if it is that one that is inside."""
        if visitor is None or self._inside.get(None) is visitor:
            del self._inside[None]

    def __call__(self) -> _Stay:
        """Be inside for the ``with`` block."""
        return _Stay(self)


class _Stay:
    """Inside for a ``with`` block.

    Not a generator: Ctrl-C behind its coming in would leave it inside until nobody holds the
    traceback any more, and its owner could not even be closed.
    """

    __slots__ = ("_guard", "_mine")

    def __init__(self, guard: SingleUseGuard) -> None:
        self._guard = guard
        self._mine: _Visitor | None = None

    def __enter__(self) -> None:
        self._mine = self._guard.enter()

    def __exit__(self, *_: object) -> None:
        self._end()

    def __del__(self) -> None:
        self._end()  # where Ctrl-C came before ``__exit__`` could do that

    def _end(self) -> None:
        if self._mine is not None:
            self._guard.leave(self._mine)
            self._mine = None  # behind it: Ctrl-C may have kept it from leaving
