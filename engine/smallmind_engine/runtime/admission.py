"""Admission: how many requests run, how many may wait, and who is next (first come)."""

from __future__ import annotations

import threading
from collections import deque

from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import BackpressureError, ClosedError


class AdmissionGate:
    """Lets a limited number of requests run; the others wait in order. Thread-safe.

    Args:
        max_running: requests inside at once.
        max_waiting: requests in the queue; one more is turned away.
    """

    def __init__(self, max_running: int, max_waiting: int) -> None:
        # Re-entrant: the garbage collector may end an abandoned stream, which comes here, anywhere.
        self._lock = threading.RLock()
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._running = 0
        self._waiting: deque[threading.Event] = deque()
        self._closed = False

    @property
    def running(self) -> int:
        """Requests inside."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def max_waiting(self) -> int:
        """The limit of the queue."""
        return self._max_waiting

    def enter(self, limit: WorkLimit, token: CancellationToken | None) -> ReasonCode | None:
        """Wait for a place.

        Args:
            limit: how long to wait.
            token: the same token as in ``limit``; wakes the wait.

        Returns:
            None with a place taken, to be given back with ``leave``; or why there is none.

        Raises:
            BackpressureError: the queue is full.
            ClosedError: the engine was closed.
        """
        turn = threading.Event()
        with self._lock:
            self._check_open()
            if self._running < self._max_running and not self._waiting:
                self._running += 1
                return None
            if len(self._waiting) >= self._max_waiting:
                raise BackpressureError(
                    ReasonCode.BACKPRESSURE_QUEUE_FULL,
                    f"{len(self._waiting)} requests are waiting and the queue takes"
                    f" {self._max_waiting}",
                    hint="retry later, or raise max_queue_depth",
                    queue_depth=len(self._waiting),
                    limit=self._max_waiting,
                )
            self._waiting.append(turn)
        wake = token.on_cancel(turn.set) if token is not None else None
        try:
            turn.wait(limit.remaining_s)
        except BaseException:  # Ctrl-C while waiting: the place may have been given already
            if not self._withdraw(turn):
                self.leave()
            raise
        finally:
            if wake is not None:
                wake()
        if self._withdraw(turn):
            self._check_open()
            return limit.exceeded or ReasonCode.CANCELLED_BY_CALLER
        return None

    def _withdraw(self, turn: threading.Event) -> bool:
        """Leave the queue; answers False when the place was given in the meantime."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
                return True
        return False

    def leave(self) -> None:
        """Give the place to the next in the queue."""
        with self._lock:
            if self._waiting and not self._closed:
                self._waiting.popleft().set()
            else:
                self._running -= 1

    def close(self) -> None:
        """Turn away those who wait, and all who come later."""
        with self._lock:
            self._closed = True
            for turn in self._waiting:
                turn.set()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(ReasonCode.CLOSED, "the engine is closed")
