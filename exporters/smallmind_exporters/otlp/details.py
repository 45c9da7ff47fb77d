"""Events of tokens that came beside a queue, until the queue comes to what happened before them."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from smallmind_engine.telemetry import Event

MOST_WAITING: Final = 1 << 16
"""Some seconds of a queue that nobody works off."""


class WaitingDetails:
    """Keeps them by request, whose other events all come through one queue. Thread-safe.

    Attributes:
        given_up: how many were lost because too many waited.
    """

    def __init__(self) -> None:
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()
        self._by_request: dict[str, deque[Event]] = {}
        self._count = 0
        self.given_up = 0

    def __len__(self) -> int:
        return self._count

    def add(self, event: Event) -> None:
        """Keep one more; when there are too many, the oldest request's go."""
        key = event.correlation.request_id
        with self._lock:
            if self._count >= MOST_WAITING:
                oldest = next(iter(self._by_request))
                lost = len(self._by_request.pop(oldest))
                self._count -= lost
                self.given_up += lost
            self._by_request.setdefault(key, deque()).append(event)
            self._count += 1

    def before(self, event: Event) -> list[Event]:
        """Take those of the same request that were published before ``event``, in their order."""
        ids = event.correlation
        with self._lock:
            waiting = self._by_request.pop(ids.request_id, None)
            if waiting is None:
                return []
            found: list[Event] = []
            later: deque[Event] = deque()
            for each in waiting:
                # Callers may give one id to several requests.
                mine = each.correlation is ids or each.correlation == ids
                (found if mine and each.sequence < event.sequence else later).append(each)
            if later:
                self._by_request[ids.request_id] = later
            self._count -= len(found)
        return found

    def all(self) -> list[Event]:
        """Take all."""
        with self._lock:
            found = [event for waiting in self._by_request.values() for event in waiting]
            self._by_request.clear()
            self._count = 0
        return found
