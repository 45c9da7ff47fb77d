"""Which exporters this thread is inside of, so that none is fed for ever with what it causes.

An exporter may publish while it exports: a logging handler it uses, a model it asks. An emitter
made inside an exporter leaves that exporter out. The path of exporters that led to an event goes
with it through queues, so that this holds across threads.

An emitter that was made before is another matter: the garbage collector may close a request's
abandoned stream at any moment, also inside an exporter, and that exporter must learn of the
request's end. So such an event is kept until the exporter is free, and is delivered then; and so
for what it causes in turn, up to four visits in a chain. Thus every chain of events ends, and no
exporter is entered twice at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from smallmind_engine.telemetry.exporter import Exporter

Path = tuple[Exporter, ...]

MAX_VISITS: Final = 4


class Inside:
    """State of one thread.

    Attributes:
        path: the exporters that the thread is inside of, outermost first.
        deferred: what is to be delivered when the outermost of them returns.
        notices: what the bus still has to tell its exporters; None while nothing is told.
    """

    __slots__ = ("deferred", "notices", "path")

    def __init__(self) -> None:
        self.path: Path = ()
        self.deferred: deque[Callable[[], None]] = deque()
        self.notices: list[Callable[[], None]] | None = None


class _Here(threading.local):
    """Has the state of the thread that asks: one look at it, then plain attributes."""

    inside: Inside | None = None


here: Final = _Here()


def inside() -> Inside:
    """The state of this thread."""
    state = here.inside
    if state is None:
        # The collector may publish in the middle of this; what that began, it has ended again.
        state = here.inside = Inside()
    return state


def visits(exporter: Exporter, path: Path) -> int:
    """How often ``exporter`` is on ``path``, by identity."""
    return sum(entered is exporter for entered in path)


def defer(delivery: Callable[[], None]) -> None:
    """Keep a delivery until the thread has left the exporters it is inside of."""
    inside().deferred.append(delivery)


def deliver_deferred() -> None:
    """Deliver what was kept while this thread was inside an exporter."""
    deferred = inside().deferred
    while deferred:
        deferred.popleft()()


def tell(notice: Callable[[], None]) -> None:
    """Run ``notice``, or have it run by the notice that this thread is already telling.

    Notices cause notices when their receivers fail too. Running them one after the other keeps
    the stack flat, however many exporters fail at once. What goes wrong in a notice stays here.
    """
    state = inside()
    if state.notices is not None:
        state.notices.append(notice)
        return
    waiting = state.notices = [notice]
    try:
        while waiting:
            with contextlib.suppress(Exception):
                waiting.pop(0)()
    finally:
        state.notices = None
