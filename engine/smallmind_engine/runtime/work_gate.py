"""The gate for work beside the scheduler, such as embeddings: who runs, who waits, who is next."""

from __future__ import annotations

import threading
from collections import deque

from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import BackpressureError, ClosedError


class WorkGate:
    """Lets a limited number of callers in; the others wait in order. Thread-safe.

    Args:
        most_running: callers inside at once.
        most_waiting: callers in the queue; one more is turned away.
    """

    def __init__(self, most_running: int, most_waiting: int) -> None:
        self._most_running = most_running
        self._most_waiting = most_waiting
        self._closed = False
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Begin with a free lock and nobody inside, as in a forked child."""
        self._changed = threading.Condition(threading.RLock())
        self._running = 0
        self._waiting: deque[threading.Event] = deque()

    @property
    def running(self) -> int:
        """Callers inside."""
        return self._running

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._waiting)

    def enter(self, limit: WorkLimit, token: CancellationToken) -> ReasonCode | None:
        """Wait for a place.

        Args:
            limit: how long to wait.
            token: the same token as in ``limit``; wakes the wait.

        Returns:
            None with a place taken, to be given back with ``leave``; or why there is none.

        Raises:
            BackpressureError: the queue is full.
            ClosedError: the engine was closed, or is being drained.
        """
        turn = threading.Event()
        with self._changed:
            self.check_room()
            if self._running < self._most_running and not self._waiting:
                self._running += 1
                return None
            self._waiting.append(turn)
        wake = token.on_cancel(turn.set)
        try:
            turn.wait(limit.remaining_s)
        except BaseException:  # Ctrl-C while waiting: the place may have been given already
            if not self._withdraw(turn):
                self.leave()
            raise
        finally:
            wake()
        if self._withdraw(turn):
            self._check_open()
            return limit.exceeded or ReasonCode.CANCELLED_BY_CALLER
        return None

    def check_room(self) -> None:
        """Turn a caller away who would not be let in now, nor may wait.

        Raises:
            BackpressureError: the queue is full.
            ClosedError: the engine was closed, or is being drained.
        """
        with self._changed:
            self._check_open()
            waiting = len(self._waiting)
            busy = self._running >= self._most_running or waiting
            if busy and waiting >= self._most_waiting:
                raise BackpressureError(
                    ReasonCode.BACKPRESSURE_QUEUE_FULL,
                    f"{waiting} calls are waiting and the queue takes {self._most_waiting}",
                    hint="retry later, or raise max_queue_depth",
                    queue_depth=waiting,
                    limit=self._most_waiting,
                )

    def _withdraw(self, turn: threading.Event) -> bool:
        """Leave the queue; answers False when the place was given in the meantime."""
        with self._changed:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return True
        return False

    def leave(self) -> None:
        """Give the place to the next in the queue."""
        with self._changed:
            if self._waiting:
                self._waiting.popleft().set()
                return
            self._running -= 1
            self._changed.notify_all()

    def drain(self, timeout_s: float | None) -> bool:
        """Turn newcomers away, and wait until nobody is inside; whether that came about."""
        with self._changed:
            self._closed = True
            return self._changed.wait_for(lambda: self._running == 0, timeout_s)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(ReasonCode.CLOSED, "the engine is closed or being drained")
