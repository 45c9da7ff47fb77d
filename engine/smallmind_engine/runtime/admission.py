"""Admission: how many requests run, how many may wait, and who is turned away."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from smallmind_engine.runtime.work import PAUSED, RequestWork
from smallmind_engine.telemetry import ReasonCode, now_ns
from smallmind_engine.telemetry.errors import BackpressureError, ClosedError

_SOON_NS: Final = 20_000_000
"""Who has prepared a request for longer than this is not expected to submit it soon."""

STALL_NS: Final = 1_000_000_000
"""A request whose reader stays away for so long gives its place to those in the queue."""


class Admission:
    """Counts requests from their submission to their end. Thread-safe.

    Args:
        most_running: requests that run at once.
        most_waiting: requests in the queue; one more is turned away.

    Attributes:
        lock: held by who submits.
        most_waiting: as given.
        waiting: requests in the queue.
        submitted: requests that ever came in.
        ended: requests that ever ended, of those; all of them do.
        rejected: requests that were turned away.
        starved: whether the first in the queue waits for memory, not for a place.
    """

    def __init__(self, most_running: int, most_waiting: int) -> None:
        self._most_running: Final = most_running
        self.most_waiting: Final = most_waiting
        self._closed = False
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Begin with a free lock and nobody inside, as in a forked child."""
        self.lock = threading.RLock()
        self._all_ended = threading.Condition(self.lock)
        self.waiting = 0
        self.submitted = 0
        self.ended = 0
        self.rejected = 0
        self.starved = False
        self._preparing: dict[RequestWork, int] = {}

    @contextmanager
    def preparing(self, work: RequestWork) -> Iterator[None]:
        """A request is prepared in the ``with`` block, which submits it."""
        self._preparing[work] = now_ns()
        try:
            yield
        finally:
            self._preparing.pop(work, None)

    def expects_more(self) -> bool:
        """Whether somebody is about to submit a request; all who did are in the notes by then."""
        before = now_ns() - _SOON_NS
        with self.lock:  # held from ``enter`` until the scheduler has a note of the request
            return any(begin > before for begin in tuple(self._preparing.values()))

    def enter(self, work: RequestWork) -> None:
        """Come in, where there is room; the caller holds the lock, and tells the scheduler."""
        self._preparing.pop(work, None)
        self.waiting += 1
        self.submitted += 1

    def looks_full(self, live: Sequence[RequestWork]) -> bool:
        """Whether a newcomer is likely to be turned away; without the lock."""
        room = self.most_waiting
        if not self.starved:
            room += max(0, self._most_running - running(live))
        return self.waiting >= room

    def check_early(self, live: Sequence[RequestWork]) -> None:
        """As ``check_room``, which has the last word; the caller does not hold the lock."""
        with self.lock:
            self.check_room(live)

    def check_room(self, live: Sequence[RequestWork]) -> None:
        """Turn a request away that cannot be let in; the caller holds the lock.

        Args:
            live: admitted requests.

        Raises:
            BackpressureError: the queue is full.
            ClosedError: the engine was closed, or is being drained.
        """
        if self._closed:
            raise ClosedError(ReasonCode.CLOSED, "the engine is closed or being drained")
        if self.looks_full(live):
            self.rejected += 1
            raise BackpressureError(
                ReasonCode.BACKPRESSURE_QUEUE_FULL,
                f"{self.waiting} requests are waiting and the queue takes {self.most_waiting}",
                hint="retry later, or raise max_queue_depth",
                queue_depth=self.waiting,
                depth=self.waiting,
                limit=self.most_waiting,
            )

    def has_place(self, live: Sequence[RequestWork]) -> bool:
        """Whether one more may run."""
        return len(live) < self._most_running or running(live) < self._most_running

    def leave_queue(self) -> None:
        """A request was admitted, or does not wait any more."""
        with self.lock:
            self.waiting -= 1

    def leave(self) -> None:
        """A request ended."""
        with self.lock:
            self.ended += 1
            if self.ended == self.submitted:
                self._all_ended.notify_all()

    def drain(self, timeout_s: float | None, *, wait: bool) -> bool:
        """Turn newcomers away, and wait until nobody is inside; whether that came about."""
        with self.lock:
            self._closed = True
            if wait:
                self._all_ended.wait_for(lambda: self.ended == self.submitted, timeout_s)
            return self.ended == self.submitted


def running(live: Sequence[RequestWork]) -> int:
    """Admitted requests without those whose readers stay away."""
    before = now_ns() - STALL_NS
    return sum(not (w.stage is PAUSED and w.paused_ns < before) for w in tuple(live))
