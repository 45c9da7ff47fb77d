"""Work that cannot be stopped in its midst, and need not be waited for: it ends by itself."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

from smallmind_engine.control.cancellation import WorkLimit
from smallmind_engine.control.forks import FORK_GATE

_T = TypeVar("_T")

_ENDED: Final = "ended"
_WOKEN: Final = "woken"


def run_or_leave(work: Callable[[], _T], limit: WorkLimit, name: str) -> _T:
    """Do work, but go away when the limit is reached; the work then ends in the background.

    It runs in a thread of its own, unless nothing can stop it anyway. What it comes to after
    everyone has left is dropped, so it should leave its fruits where the next one finds them. The
    process does not fork meanwhile, and does not exit before it has ended.

    Args:
        work: is not told of the limit.
        limit: how long to wait.
        name: of the work, for the error.

    Returns:
        What ``work`` returned.

    Raises:
        OperationCancelledError: the limit was reached.
    """
    limit.check(name)
    if limit.is_unlimited:
        with FORK_GATE.held():
            return work()
    errand = _Errand(work)
    # Not a daemon: one that is inside of a compiler when the interpreter goes would crash it.
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(errand.run,), name=f"smallmind: {name}"
    )
    forget = limit.on_cancel(errand.wake)
    try:
        thread.start()
        while not errand.ended(limit.remaining_s):
            limit.check(name)
        return errand.result()
    finally:
        forget()


class _Errand(Generic[_T]):
    """Work in another thread, and how it came out."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self._work: Callable[[], _T] | None = work
        # Such a queue may be put into from a signal handler, which an event's lock does not allow.
        self._news: SimpleQueue[str] = SimpleQueue()
        self._results: list[_T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the work."""
        try:
            work, self._work = self._work, None
            if work is not None:
                with FORK_GATE.held():
                    self._results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._error = error
        finally:
            self._news.put(_ENDED)

    def wake(self) -> None:
        """Let the one that waits look at its limit."""
        self._news.put(_WOKEN)

    def ended(self, timeout_s: float | None) -> bool:
        """Wait for news; answers whether the work has ended."""
        try:
            return self._news.get(timeout=timeout_s) == _ENDED
        except Empty:
            return False

    def result(self) -> _T:
        """What came of it."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._results.pop()
