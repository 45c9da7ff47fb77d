"""What waits to be sent: bounded, sent in batches, and counted in events to the last one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the events of one signal.

    Attributes:
        waiting: not sent yet.
        failed: the receiver refused them, or could not be reached in time.
        dropped: given up because too many waited.
    """

    waiting: int = 0
    failed: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Parcel(Generic[_T]):
    """Records that are sent or lost together.

    Attributes:
        records: what is sent.
        events: how many events they stand for.
        size: how much they are, in plain records.
    """

    records: tuple[_T, ...]
    events: int
    size: int


class Outbox(Generic[_T]):
    """Parcels in order; when they get too many the oldest go, and are counted.

    Thread-safe; ``send_all`` belongs to one thread at a time.

    Args:
        send: delivers a batch; False, or an exception, when that failed.
        capacity: what may wait, as the sum of the parcels' sizes.
        batch: how much to send at once, likewise; one parcel at least.
        on_batch: called when a batch has come together.
    """

    def __init__(
        self,
        send: Callable[[Sequence[_T]], bool],
        *,
        capacity: int,
        batch: int,
        on_batch: Callable[[], None],
    ) -> None:
        self._send: Final = send
        self._capacity = max(1, capacity)
        self._batch = max(1, min(batch, self._capacity))
        self._on_batch = on_batch
        self._lock = threading.RLock()
        self._parcels: deque[Parcel[_T]] = deque()
        self._size = 0
        self._waiting = 0
        self._failed = 0
        self._dropped = 0

    def put(self, parcel: Parcel[_T]) -> None:
        """Take one parcel in; never waits."""
        with self._lock:
            self._parcels.append(parcel)
            self._size += parcel.size
            self._waiting += parcel.events
            while self._size > self._capacity and len(self._parcels) > 1:
                oldest = self._parcels.popleft()
                self._size -= oldest.size
                self._waiting -= oldest.events
                self._dropped += oldest.events
            full = self._size >= self._batch
        if full:
            self._on_batch()

    def send_all(self) -> None:
        """Send what waits now, batch by batch."""
        with self._lock:
            rounds = len(self._parcels)
        while rounds > 0:
            batch = self._take(rounds)
            if not batch:
                return
            rounds -= len(batch)
            self._send_batch(batch)

    def _take(self, most: int) -> list[Parcel[_T]]:
        batch: list[Parcel[_T]] = []
        size = 0
        with self._lock:
            while self._parcels and len(batch) < most and size < self._batch:
                parcel = self._parcels.popleft()
                size += parcel.size
                self._size -= parcel.size
                batch.append(parcel)
        return batch

    def _send_batch(self, batch: list[Parcel[_T]]) -> None:
        events = sum(parcel.events for parcel in batch)
        sent = False
        try:
            sent = self._send([record for parcel in batch for record in parcel.records])
        finally:
            with self._lock:
                self._waiting -= events
                self._failed += 0 if sent else events

    def give_up(self) -> None:
        """Drop what waits, and count it."""
        with self._lock:
            self._dropped += sum(parcel.events for parcel in self._parcels)
            self._waiting -= sum(parcel.events for parcel in self._parcels)
            self._parcels.clear()
            self._size = 0

    @property
    def counts(self) -> Counts:
        """How the events fared so far."""
        with self._lock:
            return Counts(self._waiting, self._failed, self._dropped)
