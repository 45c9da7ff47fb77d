"""A flush that waits for its turn in the queue before an exporter."""

from __future__ import annotations

from queue import SimpleQueue

from smallmind_engine.telemetry.exporter import FlushResult


class FlushRequest:
    """A caller that waits until the events queued before it are through.

    Attributes:
        target: how many events were queued before it, in all.
        deadline_ns: how long it waits, by the clock of events.
        answer: receives what became of the events.
    """

    __slots__ = ("answer", "deadline_ns", "target")

    def __init__(self, target: int, deadline_ns: int) -> None:
        self.target = target
        self.deadline_ns = deadline_ns
        self.answer: SimpleQueue[FlushResult] = SimpleQueue()
