"""The gate for work beside the scheduler, such as embeddings: who runs, who waits, who is next."""

from __future__ import annotations

import threading
from collections import deque

from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import BackpressureError, ClosedError


class Visit:
    """A caller at the gate: before it, in the queue, or inside."""

    __slots__ = ("turn",)

    def __init__(self) -> None:
        self.turn = threading.Event()


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
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._inside: set[Visit] = set()
        self._waiting: deque[Visit] = deque()

    @property
    def running(self) -> int:
        """Callers inside."""
        return len(self._inside)

    @property
    def waiting(self) -> int:
        """Callers in the queue."""
        return len(self._waiting)

    def enter(self, visit: Visit, limit: WorkLimit, token: CancellationToken) -> ReasonCode | None:
        """Wait for a place.

        Args:
            visit: to be ended with ``leave`` in any case, also behind an error.
            limit: how long to wait.
            token: the same token as in ``limit``; wakes the wait.

        Returns:
            None with a place taken, or why there is none.

        Raises:
            BackpressureError: the queue is full.
            ClosedError: the engine was closed, or is being drained.
        """
        with self._lock:
            self.check_room()
            if len(self._inside) < self._most_running and not self._waiting:
                self._inside.add(visit)
                return None
            self._waiting.append(visit)
        wake = token.on_cancel(visit.turn.set)
        try:
            visit.turn.wait(limit.remaining_s)
        finally:
            wake()
        with self._lock:
            if visit in self._inside:
                return None
            self._check_open()
        return limit.exceeded or ReasonCode.CANCELLED_BY_CALLER

    def check_room(self) -> None:
        """Turn a caller away who would not be let in now, nor may wait.

        Raises:
            BackpressureError: the queue is full.
            ClosedError: the engine was closed, or is being drained.
        """
        with self._lock:
            self._check_open()
            waiting = len(self._waiting)
            busy = len(self._inside) >= self._most_running or waiting
            if busy and waiting >= self._most_waiting:
                raise BackpressureError(
                    ReasonCode.BACKPRESSURE_QUEUE_FULL,
                    f"{waiting} calls are waiting and the queue takes {self._most_waiting}",
                    hint="retry later, or raise max_queue_depth",
                    queue_depth=waiting,
                    limit=self._most_waiting,
                )

    def leave(self, visit: Visit) -> None:
        """End a visit, wherever it is, and let the next in the queue come in.

        May be called again, which does what Ctrl-C has kept the first call from.
        """
        with self._lock:
            self._inside.discard(visit)
            while self._waiting and len(self._inside) < self._most_running:
                if self._waiting[0] is not visit:
                    self._inside.add(self._waiting[0])
                self._waiting.popleft()
            if visit in self._waiting:
                self._waiting.remove(visit)
            for other in tuple(self._inside):
                other.turn.set()
            self._changed.notify_all()

    def drain(self, timeout_s: float | None) -> bool:
        """Turn newcomers away, and wait until nobody is inside; whether that came about."""
        with self._lock:
            self._closed = True
            return self._changed.wait_for(lambda: not self._inside, timeout_s)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(ReasonCode.CLOSED, "the engine is closed or being drained")
