"""Which exporters this thread is inside of, so that none is fed with what it causes itself.

An exporter may publish while it exports: a logging handler it uses, a model it asks. Its events
reach the others, never itself, whether directly, through another exporter or through a queue:
the path of exporters that led to an event travels with it. So every chain of events ends.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from smallmind_engine.telemetry.exporter import Exporter

Path = tuple[Exporter, ...]


class _Exporting(threading.local):
    """State of one thread.

    Attributes:
        path: the exporters that the thread is inside of, outermost first.
        notices: what the bus still has to tell its exporters; None while nothing is told.
    """

    path: Path = ()
    notices: list[Callable[[], None]] | None = None


here: Final = _Exporting()


def is_inside(exporter: Exporter, path: Path) -> bool:
    """Whether ``exporter`` is on ``path``, by identity."""
    return any(entered is exporter for entered in path)


def tell(notice: Callable[[], None]) -> None:
    """Run ``notice``, or have it run by the notice that this thread is already telling.

    Notices cause notices when their receivers fail too. Running them one after the other keeps
    the stack flat, however many exporters fail at once. What goes wrong in a notice stays here.
    """
    if here.notices is not None:
        here.notices.append(notice)
        return
    waiting = here.notices = [notice]
    try:
        while waiting:
            with contextlib.suppress(Exception):
                waiting.pop(0)()
    finally:
        here.notices = None
