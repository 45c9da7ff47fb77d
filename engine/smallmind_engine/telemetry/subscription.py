"""One exporter on a bus: hands events over, keeps its troubles here, measures what it takes."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.exporter import (
    Exporter,
    ExporterHealth,
    FlushResult,
    Gathering,
)
from smallmind_engine.telemetry.exporting import (
    MAX_VISITS,
    Path,
    defer,
    deliver_deferred,
    here,
    inside,
    tell,
    visits,
)
from smallmind_engine.telemetry.fork import renew_in_child
from smallmind_engine.telemetry.queued import QueuedExporter
from smallmind_engine.telemetry.text import describe_error

if TYPE_CHECKING:
    from smallmind_engine.telemetry.bus import EventBus

FAILURES_BEFORE_DETACH: Final = 5
METERED_EVERY: Final = 13
"""Of the frequent kinds so many are measured as one; a prime, or it might always meet one kind."""
BURST_NS: Final = 250_000_000
"""How long a burst of frequent events lasts for an exporter that gathers them."""
MOST_GATHERED: Final = 256
"""How many events such a burst has."""
MOST_BESIDE_A_QUEUE: Final = 4096
"""The same where the thread of a queue takes them, which looks after them once a second."""


class Subscription:
    """One exporter on one bus. Close it to stop the events; the exporter stays open.

    Attributes:
        exporter: as it was subscribed.
        interests: mask of the kinds it receives.
        deliver: ``(subscription, event)``: how to hand an event over; what goes wrong stays here.
        active: whether it still receives events.
        backlog: where events of frequent kinds wait, for an exporter that gathers them.
        gathers_until_ns: when the burst that is under way ends.
        publish_ns: nanoseconds that it took of the threads that publish; see ``ExporterHealth``.
    """

    __slots__ = (
        "__weakref__",
        "_alone",
        "_bus",
        "_clock",
        "_consecutive",
        "_errors",
        "_gathers",
        "_last_error",
        "_lock",
        "_most_gathered",
        "_name",
        "_own_queue",
        "_queue",
        "_shed_before",
        "_target",
        "_unmetered",
        "active",
        "backlog",
        "deliver",
        "exporter",
        "gathers_until_ns",
        "interests",
        "publish_ns",
    )

    def __init__(self, bus: EventBus, exporter: Exporter, interests: int) -> None:
        self._bus = bus
        self._clock = bus.clock
        self._unmetered = METERED_EVERY - 1  # events until one is measured for all
        self.publish_ns = 0
        self._shed_before = bus.shed(interests)
        self._errors = 0
        self._consecutive = 0
        self._last_error = ""
        self._name = exporter.name
        self.exporter = exporter
        self.interests = interests
        self.active = True
        self._own_queue = not exporter.inline
        self._queue = QueuedExporter(exporter) if self._own_queue else _as_queue(exporter)
        backlog = exporter.backlog if isinstance(exporter, Gathering) else None
        self._gathers = backlog is not None
        self.backlog: deque[Event] = deque() if backlog is None else backlog
        self.gathers_until_ns = 0
        if self._queue is not None:
            self._queue.is_passed_by |= self._gathers
        self._most_gathered = MOST_GATHERED if self._queue is None else MOST_BESIDE_A_QUEUE
        self._target = exporter
        if self._queue is not None:
            self._target = self._queue.exporter
            self._queue.on_error = self._queue.on_error or self.failed
            self._queue.on_drop = self._queue.on_drop or self._dropped
        self._alone: Path = (self._target,)
        # A function, not a method of this object: it would keep itself alive.
        self.deliver = Subscription.deliver_inline
        if self._gathers:
            self.deliver = Subscription.deliver_gathered
        elif self._queue is not None:
            self.deliver = Subscription.deliver_queued
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin with a free lock, as in a forked child."""
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()

    # Each way is one function: where a step has left the caches cold, a call costs microseconds.

    def deliver_inline(self, event: Event) -> None:
        """To an exporter that takes events in the thread that publishes them. Hot path."""
        state = here.inside or inside()
        if state.path:
            self._deliver_inside(event, state.path)
            return  # measured as part of the exporter that caused it
        count = 1  # of events that this measurement stands for; 0 when there is none
        if event.is_frequent:
            left = self._unmetered
            if left > 0:
                self._unmetered = left - 1
                count = 0
            else:
                self._unmetered = METERED_EVERY - 1
                count = METERED_EVERY
        begin_ns = self._clock() if count else 0
        try:
            state.path = self._alone
            try:
                self.exporter.export(event)
            finally:
                state.path = ()
        except Exception as error:  # noqa: BLE001 - the border that keeps exporters' faults out
            self.failed(error)
        else:
            if self._consecutive:
                self.failed(None)
        if state.deferred:
            deliver_deferred()
        if count:
            self.publish_ns += (self._clock() - begin_ns) * count

    def deliver_gathered(self, event: Event) -> None:
        """To an exporter that gathers the frequent kinds in bursts. Hot path."""
        if event.is_frequent:
            waiting = len(self.backlog)
            if event.time_ns <= self.gathers_until_ns and waiting < self._most_gathered:
                if waiting % METERED_EVERY:
                    self.backlog.append(event)
                    return
                begin_ns = self._clock()
                self.backlog.append(event)
                self.publish_ns += (self._clock() - begin_ns) * METERED_EVERY
                return
            # It takes along those that wait, and is measured with all of them.
            self.gathers_until_ns = event.time_ns + BURST_NS
        self.deliver_queued(event)

    def deliver_queued(self, event: Event) -> None:
        """To a queue, or at the end of a burst."""
        state = here.inside or inside()
        path = state.path
        if path:
            self._deliver_inside(event, path)
            return
        count = 1
        if event.is_frequent and not self._gathers:
            left = self._unmetered
            if left > 0:
                self._unmetered = left - 1
                self._export(event, path)
                return
            self._unmetered = METERED_EVERY - 1
            count = METERED_EVERY
        begin_ns = self._clock()
        self._export(event, path)
        if state.deferred:
            deliver_deferred()
        self.publish_ns += (self._clock() - begin_ns) * count

    def _deliver_inside(self, event: Event, path: Path) -> None:
        """As ``deliver``, in a thread that is inside of exporters."""
        visited = visits(self._target, path)
        if visited >= MAX_VISITS:
            return
        if visited and self._queue is None:
            defer(lambda: self._export(event, path) if self.active else None)
            return
        self._export(event, path)

    def _export(self, event: Event, path: Path) -> None:
        state = here.inside or inside()
        before = state.path
        try:
            if self._queue is not None:
                self._queue.export(event)
                return
            state.path = (*path, self._target)
            try:
                self.exporter.export(event)
            finally:
                state.path = before
        except Exception as error:  # noqa: BLE001 - the border that keeps exporters' faults out
            self.failed(error)
        else:
            if self._consecutive:
                self.failed(None)

    def failed(self, error: BaseException | None) -> None:
        """Count a failure (None: a success after failures); tell the first; detach after five."""
        described = "" if error is None else describe_error(error)
        with self._lock:
            if error is None:
                self._consecutive = 0
                return
            self._errors += 1
            self._consecutive += 1
            self._last_error = described
            first = self._errors == 1
            detach = self.active and self._consecutive >= FAILURES_BEFORE_DETACH
            if detach:
                self.active = False
        if first:
            tell(lambda: self._bus.report_failure(self, error))
        if detach:
            tell(lambda: self._bus.detach(self))

    def is_outside(self, path: Path) -> bool:
        """Whether its exporter is not on ``path``."""
        return not visits(self._target, path)

    def _dropped(self, count: int) -> None:
        tell(lambda: self._bus.report_drops(self, count))

    @property
    def health(self) -> ExporterHealth:
        """Counts of this exporter's troubles."""
        dropped = self._queue.dropped if self._queue is not None else 0
        with self._lock:
            return ExporterHealth(
                self._name,
                self.active,
                self._errors,
                dropped,
                self._last_error,
                publish_s=self.publish_ns / 1e9,
                export_s=0.0 if self._queue is None else self._queue.export_s,
                shed=self._bus.shed(self.interests) - self._shed_before,
            )

    def flush(self, timeout_s: float) -> FlushResult:
        """Flush the queue and the exporter; a failing one is reported in the answer."""
        try:
            return (self._queue or self.exporter).flush(timeout_s)
        except Exception as error:  # noqa: BLE001 - as in deliver
            self.failed(error)
            return FlushResult(failed=1)

    def close(self) -> None:
        """Stop the events, and pass on what is queued. May be called more than once."""
        queue = self.leave()
        if queue is not None:
            queue.stop()

    def leave(self, *, discard: bool = False) -> QueuedExporter | None:
        """Come off the bus without waiting; answers with the queue that is still to be stopped.

        Args:
            discard: give up what is queued.
        """
        self.active = False
        self._bus.remove(self)
        if self._queue is None:
            return None
        if not self._own_queue:
            if self._queue.on_error == self.failed:
                self._queue.on_error = None
            if self._queue.on_drop == self._dropped:
                self._queue.on_drop = None
            return None
        if discard:
            self._queue.stop(0.0, discard=True)
        return self._queue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _as_queue(exporter: Exporter) -> QueuedExporter | None:
    """A queue that the caller put before an exporter; it stays the caller's to stop."""
    return exporter if isinstance(exporter, QueuedExporter) else None
