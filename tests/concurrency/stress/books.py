"""Two books of the same requests: what their callers saw, and what the events told."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto

from smallmind import StopReason
from smallmind_engine.telemetry import (
    Event,
    EventKind,
    FlushResult,
    InferenceStarted,
    InferenceStopped,
    RequestQueued,
)


class Seen(Enum):
    """What a caller saw of the end of its request."""

    TOLD = auto()  # the result, with its reason
    UNTOLD = auto()  # it did not stay for the result
    NONE = auto()  # there was no request: it was refused before, or never begun
    PERHAPS = auto()  # its task was cancelled, perhaps before there was a request

    @property
    def stops(self) -> tuple[int, ...]:
        """How often a request of which this was seen may have stopped."""
        return {Seen.NONE: (0,), Seen.PERHAPS: (0, 1)}.get(self, (1,))


class CallersBook:
    """What callers saw. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ends: dict[str, tuple[Seen, StopReason | None]] = {}
        self.faults: list[str] = []
        self.ways: Counter[str] = Counter()

    def note(self, request_id: str, seen: Seen, reason: StopReason | None = None) -> None:
        """A request came to its end, as its caller sees it."""
        with self._lock:
            if request_id in self.ends:
                self.faults.append(f"request {request_id} ended twice for its caller")
            self.ends[request_id] = (seen, reason)

    def fault(self, text: str) -> None:
        """Something that must not be."""
        with self._lock:
            self.faults.append(text)

    def count(self, way: str) -> None:
        """One more call of a kind."""
        with self._lock:
            self.ways[way] += 1


@dataclass(slots=True)
class Told:
    """What the events told of one request."""

    queued: int = 0
    started: int = 0
    stops: list[StopReason] = field(default_factory=list)


class EventsBook:
    """An exporter that keeps the books of what is told. Thread-safe."""

    name = "books"
    interests = EventKind.REQUEST_QUEUED | EventKind.INFERENCE_STARTED | EventKind.INFERENCE_STOPPED
    inline = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.told: dict[str, Told] = {}

    def export(self, event: Event, /) -> None:
        """Enter an event."""
        with self._lock:
            told = self.told.setdefault(event.correlation.request_id, Told())
            match event:
                case RequestQueued():
                    told.queued += 1
                case InferenceStarted():
                    told.started += 1
                case InferenceStopped():
                    told.stops.append(event.reason)

    def flush(self, timeout_s: float) -> FlushResult:
        """There is nothing to pass on."""
        return FlushResult()

    def close(self) -> None:
        """There is nothing to close."""
