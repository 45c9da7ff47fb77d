"""Work that a fork must not cut in two: the process forks when it is done.

A forked child has only the thread that forked. Locks that another thread held at that moment stay
locked in it for ever, those of the import system and of compilers among them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class ForkGate:
    """Lets forks wait for work, and work for forks. Thread-safe."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._working: dict[object, int] = {}  # threads by what stands for each piece of work
        self._forking: set[int] = set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Forks of other threads wait until the ``with`` block has ended."""
        own, work = threading.get_ident(), object()

        def may_begin() -> bool:
            # Who is inside already may go deeper, or the fork would wait for it for ever.
            return not self._forking - {own} or own in self._working.values()

        try:
            with self._lock:
                self._changed.wait_for(may_begin)
                self._working[work] = own
            yield
        finally:
            with self._lock:
                self._working.pop(work, None)
                self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no other thread works, and let none begin."""
        own = threading.get_ident()
        with self._lock:
            self._forking.add(own)
            self._changed.wait_for(lambda: all(each == own for each in self._working.values()))

    def after_in_parent(self) -> None:
        """Let work begin again."""
        with self._lock:
            self._forking.discard(threading.get_ident())
            self._changed.notify_all()

    def after_in_child(self) -> None:  # pragma: no cover - runs in forked children, not measured
        """Begin anew, with what the forking thread itself was in the midst of."""
        own = threading.get_ident()
        working = {work: thread for work, thread in self._working.items() if thread == own}
        self._begin()
        self._working = working


FORK_GATE: Final = ForkGate()
"""The one of this process, as there is one process to fork."""

if hasattr(os, "register_at_fork"):  # pragma: no branch - a matter of the system
    os.register_at_fork(
        before=FORK_GATE.before_fork,
        after_in_parent=FORK_GATE.after_in_parent,
        after_in_child=FORK_GATE.after_in_child,
    )
