"""The exporter protocol: what a subscriber of the bus offers, and what a flush answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from smallmind_engine.telemetry.events import Event


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What became of an exporter's events.

    Attributes:
        delivered: events that reached the sink so far.
        failed: events that the sink refused.
        dropped: events that were lost because a queue was full.
        pending: events still waiting.
        timed_out: whether the time ran out before the queue was empty.
    """

    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    pending: int = 0
    timed_out: bool = False

    @property
    def complete(self) -> bool:
        """Whether every event so far reached the sink."""
        return not (self.failed or self.dropped or self.pending or self.timed_out)

    def __add__(self, other: FlushResult) -> FlushResult:
        """Both answers as one."""
        return FlushResult(
            self.delivered + other.delivered,
            self.failed + other.failed,
            self.dropped + other.dropped,
            self.pending + other.pending,
            self.timed_out or other.timed_out,
        )


@dataclass(frozen=True, slots=True)
class ExporterHealth:
    """How an exporter fares.

    Attributes:
        name: the exporter's name.
        attached: whether it still receives events.
        errors: exceptions it raised.
        dropped: events lost because its queue was full, or because its sink refused them.
        last_error: the last exception, as ``Type: message``; empty when there was none.
        publish_s: seconds that it took of the threads that publish; of the frequent kinds every
            thirteenth event is measured, and counts for all of them.
        export_s: seconds that it worked behind its queue, in a thread of its own.
        shed: events that were not built for it because telemetry exceeded its budget; the
            operations of a step count as one.
    """

    name: str
    attached: bool
    errors: int
    dropped: int
    last_error: str
    publish_s: float = 0.0
    export_s: float = 0.0
    shed: int = 0


class Exporter(Protocol):
    """Where events go.

    ``export`` is called in the thread that publishes, one event at a time per request but from
    several threads at once, and never after ``close``. An exporter whose ``inline`` is False is
    called from a thread of its own, behind a bounded queue; True is for those that only add
    numbers up.
    """

    @property
    def name(self) -> str:
        """Short lower-case name, used in metrics and log lines."""
        ...

    @property
    def interests(self) -> int:
        """The kinds it wants: ``EventKind`` bits combined with ``|``, or ``ALL_KINDS``."""
        ...

    @property
    def inline(self) -> bool:
        """Whether ``export`` returns in microseconds and never waits for anything."""
        ...

    def export(self, event: Event, /) -> None:
        """Take one event."""
        ...

    def flush(self, timeout_s: float) -> FlushResult:
        """Pass on what is held back, waiting no longer than ``timeout_s`` seconds."""
        ...

    def close(self) -> None:
        """Let go of everything. May be called more than once."""
        ...


@runtime_checkable
class Gathering(Protocol):
    """An exporter that takes the frequent kinds in bursts.

    A step of the model leaves the processor's caches without the exporter's code and data, so
    that an event taken alone costs ten times what it costs among others. The bus puts events of
    the frequent kinds into ``backlog``; ``export`` and everything that shows numbers begin with
    what is there. An event waits for the next one, but no longer than a burst lasts; nothing is
    lost, and whoever reads sees all. An exporter that is not inline gets these events beside its
    queue, and tells in the answer to ``flush`` how many of all events it delivered.

    Attributes:
        backlog: where the bus appends events; None when they are to come one by one.
    """

    backlog: deque[Event] | None


def taken_from(backlog: deque[Event]) -> Iterator[Event]:
    """Take what waits in a backlog, oldest first; several threads may do so at once."""
    while backlog:
        try:
            event = backlog.popleft()
        except IndexError:  # another thread took the last one
            return
        yield event


@runtime_checkable
class Patient(Protocol):
    """An exporter behind a queue that need not be woken for each event.

    Attributes:
        patient_kinds: events of these kinds may wait for others.
        patience_s: for so many seconds.
    """

    patient_kinds: int
    patience_s: float
