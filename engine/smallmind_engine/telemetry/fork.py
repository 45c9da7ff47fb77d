"""Renews what a forked child cannot use: locks and threads stay behind in the parent.

``os.register_at_fork`` cannot be undone, so there is one hook for the process, over weak
references to the objects that need it.
"""

from __future__ import annotations

import os
import threading
from typing import Final, Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Has state that must be made anew in a forked child."""

    def begin_in_child(self) -> None:
        """Replace locks and threads; called in the child, which has one thread."""
        ...


class Pausable(Protocol):
    """Works in a thread of its own, and must not be in the midst of it when the process forks."""

    def before_fork(self) -> None:
        """Come to a halt; called in the thread that forks."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on; called in the same thread."""
        ...


_renewables: Final[WeakSet[Renewable]] = WeakSet()
_renewed_last: Final[WeakSet[Renewable]] = WeakSet()
_pausables: Final[WeakSet[Pausable]] = WeakSet()
_paused: Final[list[Pausable]] = []
_forking: Final = threading.RLock()
"""Held around a fork: of two threads that fork at once, neither lets go what the other holds."""


def renew_in_child(owner: Renewable, *, last: bool = False) -> None:
    """Call ``owner.begin_in_child()`` in each child forked from now on, while it is alive.

    Args:
        owner: has locks or threads.
        last: whether it uses others when it begins anew, which must be renewed by then.
    """
    (_renewed_last if last else _renewables).add(owner)


def pause_at_fork(owner: Pausable) -> None:
    """Halt ``owner`` around each fork from now on, while it is alive."""
    _pausables.add(owner)


def _pause_all() -> None:
    _forking.acquire()
    for owner in list(_pausables):
        owner.before_fork()
        _paused.append(owner)


def _go_on() -> None:
    try:
        while _paused:
            _paused.pop().after_fork_in_parent()
    finally:
        _forking.release()


def _renew_all() -> None:  # pragma: no cover - runs in forked children, which are not measured
    _paused.clear()
    for owner in [*_renewables, *_renewed_last]:
        owner.begin_in_child()
    _forking.release()


if hasattr(os, "register_at_fork"):  # pragma: no branch - a matter of the system
    os.register_at_fork(before=_pause_all, after_in_parent=_go_on, after_in_child=_renew_all)
