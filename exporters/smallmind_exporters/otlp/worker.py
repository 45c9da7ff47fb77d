"""A thread that does one piece of work again and again: at intervals, when woken, and on demand."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from smallmind_engine.telemetry import Exporter, now_ns
from smallmind_engine.telemetry.exporting import inside

Done = SimpleQueue[None]
"""Gets one item when work that was asked for is done."""

LONGEST_WAIT_S: Final = threading.TIMEOUT_MAX


class Worker:
    """Calls ``work`` from a daemon thread of its own, never twice at once.

    The thread starts when it is first woken or asked. It counts as inside of ``owner``, so that
    nothing it logs comes back to that exporter.

    Args:
        name: of the thread.
        work: what to do; its exceptions go to ``on_error``.
        owner: the exporter it works for.
        interval_s: seconds between two calls that nobody asked for; None for no such calls.
        prepare: called first in the thread.
        on_error: told of what ``work`` raised.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        *,
        owner: Exporter,
        interval_s: float | None,
        prepare: Callable[[], object],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._name = name
        self._work = work
        self._owner = owner
        self._interval_s = interval_s
        self._prepare = prepare
        self._on_error = on_error
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._asked: list[Done] = []
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Start the thread, if it does not run."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Have the work done soon."""
        self.start()
        if self._wake.empty():
            self._wake.put(None)

    def ask(self) -> Done:
        """Have the work done once more, from its beginning; the answer gets an item then."""
        done: Done = SimpleQueue()
        with self._lock:
            if self._stopping:
                done.put(None)
                return done
            self._asked.append(done)
        self.wake()
        return done

    def stop(self) -> Done:
        """Do the work a last time and end the thread; the answer gets an item then."""
        done: Done = SimpleQueue()
        with self._lock:
            if self._thread is None or self._stopping:
                self._stopping = True
                done.put(None)
                return done
            self._asked.append(done)
            self._stopping = True
        self.wake()
        return done

    def _run(self) -> None:
        inside().path = (self._owner,)
        self._prepare()
        while True:
            with contextlib.suppress(Empty):
                self._wake.get(timeout=self._interval_s)
            with self._lock:
                asked, self._asked = self._asked, []
                last = self._stopping
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - this thread has no one above it to tell
                self._on_error(error)
            for done in asked:
                done.put(None)
            if last:
                return


def wait_for(done: Done, deadline_ns: int) -> bool:
    """Whether the work was done by the deadline, a reading of ``now_ns``."""
    wait_s = min(max(0.0, (deadline_ns - now_ns()) / 1e9), LONGEST_WAIT_S)
    try:
        done.get(timeout=wait_s)
    except Empty:
        return False
    return True
