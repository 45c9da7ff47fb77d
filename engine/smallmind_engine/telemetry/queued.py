"""A bounded queue before a slow exporter: the engine never waits for it, losses are counted.

A thread that wakes for the event of every token takes a core from the kernels, and the GIL from
the engine, as often. So the frequent kinds wake it only when it has slept for long or many of them
wait; while they come it looks for itself, a few times a second. All other kinds wake it at once,
unless the exporter is ``Patient``.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final
from weakref import WeakSet

from smallmind_engine.telemetry.clock import now_ns
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.events import Degraded, Event
from smallmind_engine.telemetry.exporter import Exporter, FlushResult, Patient
from smallmind_engine.telemetry.exporting import Path, deliver_deferred, inside
from smallmind_engine.telemetry.fork import renew_in_child
from smallmind_engine.telemetry.health import LossAware
from smallmind_engine.telemetry.kinds import FREQUENT
from smallmind_engine.telemetry.reasons import DegradeReason, ReasonCode

DEFAULT_CAPACITY: Final = 8192
STOP_TIMEOUT_S: Final = 2.0
LINGER_S: Final = 0.2
"""How long an event that does not wake the thread waits at most for others."""
MOST_LINGERING: Final = 256
"""How many of them wait for that."""
MOST_PATIENT: Final = 1024
"""The same before an exporter that is ``Patient``."""


class _Flush:
    """A caller that waits until the events queued before it, ``target`` in all, are through."""

    __slots__ = ("answer", "deadline_ns", "target")

    def __init__(self, target: int, deadline_ns: int) -> None:
        self.target = target
        self.deadline_ns = deadline_ns
        self.answer: SimpleQueue[FlushResult] = SimpleQueue()


class QueuedExporter:
    """Passes events to another exporter from a thread of its own.

    Thread-safe.

    The thread alone calls the exporter behind: ``export``, ``flush`` and, at the end, ``close``.
    So none of them can hold up a caller longer than the caller is ready to wait. When the queue is
    full the oldest event is dropped and counted. After a fork the child begins with an empty queue
    and a thread of its own; what was queued belongs to the parent. At exit of the interpreter what
    waits is passed on and the exporter behind is flushed, for two seconds at most.

    Args:
        exporter: receives the events, always from one thread.
        capacity: how many events may wait; at least 1.
        on_error: told of each exception the exporter raises, and None at the next success.
        on_drop: told how many events were dropped, each time the queue is empty again.

    Attributes:
        is_passed_by: whether the exporter behind gets events beside the queue, too; what it says
            of them counts then.

    Raises:
        ConfigError: the capacity is less than 1.
    """

    def __init__(
        self,
        exporter: Exporter,
        *,
        capacity: int = DEFAULT_CAPACITY,
        on_error: Callable[[BaseException | None], None] | None = None,
        on_drop: Callable[[int], None] | None = None,
    ) -> None:
        if capacity < 1:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"the queue of exporter {exporter.name!r} cannot hold {capacity} events",
                hint="pass a capacity of at least 1",
                capacity=capacity,
            )
        self._exporter = exporter
        self._loss_aware = exporter if isinstance(exporter, LossAware) else None
        self.is_passed_by = False
        self._capacity = capacity
        self._patient_kinds, self._linger_s, lingering = FREQUENT, LINGER_S, MOST_LINGERING
        if isinstance(exporter, Patient):
            self._patient_kinds, self._linger_s = exporter.patient_kinds, exporter.patience_s
            lingering = MOST_PATIENT
        self._most_lingering = min(lingering, capacity // 2)
        self.on_error = on_error
        self.on_drop = on_drop
        self.name = exporter.name
        self.interests = exporter.interests
        self.inline = True
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin with an empty queue, no thread and a free lock, as in a forked child."""
        self._waiting: deque[tuple[Event, Path]] = deque()
        self._flushes: deque[_Flush] = deque()
        # Re-entrant, both: the garbage collector may close a stream, which publishes, at any
        # moment. With a condition variable such an event could fall between test and wait.
        self._lock = threading.RLock()
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._asleep = True
        self._lingers = False
        self._failing = False
        self._stopping = False
        self._closing = False
        self._closed = False
        self._ended = False
        self._queued = 0
        self._delivered = 0
        self._told_delivered = 0
        self._failed = 0
        self._dropped = 0
        self._dropped_told = 0
        self._notices = 0
        self._exported_ns = 0
        self._flush_until_ns: int | None = None

    @property
    def exporter(self) -> Exporter:
        """The exporter behind the queue."""
        return self._exporter

    @property
    def dropped(self) -> int:
        """Events lost because the queue was full or was stopped, or behind it."""
        return self._dropped + (self._loss_aware.lost if self._loss_aware is not None else 0)

    @property
    def export_s(self) -> float:
        """Seconds that the exporter behind has worked."""
        return self._exported_ns / 1e9

    def export(self, event: Event, /) -> None:
        """Queue one event; never waits for the exporter behind."""
        with self._lock:
            self._queued += 1
            if self._stopping:
                self._dropped += 1
                return
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append((event, inside().path))
            if (
                self._asleep
                or not event.kind & self._patient_kinds
                or len(self._waiting) > self._most_lingering
            ):
                self._wake_thread()

    def flush(self, timeout_s: float) -> FlushResult:
        """Wait for the events queued so far and for the exporter's own flush.

        Never takes longer than ``timeout_s`` seconds, whatever the exporter does; the answer
        tells what had become of the events by then.
        """
        wait_s = min(max(0.0, timeout_s), threading.TIMEOUT_MAX)
        flush = _Flush(self._queued, now_ns() + int(wait_s * 1e9))
        with self._lock:
            if self._stopping or threading.current_thread() is self._thread:
                return self._counts(flush.target)
            self._flushes.append(flush)
            self._wake_thread()
        try:
            return flush.answer.get(timeout=wait_s)
        except Empty:
            with self._lock:
                if flush in self._flushes:
                    self._flushes.remove(flush)
                return self._counts(flush.target, timed_out=True)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S, *, discard: bool = False) -> None:
        """Pass on what waits, for ``timeout_s`` at most, and end the thread.

        Args:
            timeout_s: what still waits after it is dropped and counted.
            discard: drop what waits at once.
        """
        self._ask_to_stop(discard=discard)
        self._join(timeout_s)

    def close(self) -> None:
        """Stop, and close the exporter behind. May be called more than once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._closing = self._thread is not None and not self._ended
            closes_itself = self._closing
        self.stop()
        if not closes_itself:
            self._exporter.close()

    def _wake_thread(self) -> None:
        if self._thread is None:
            self._start()
        if self._wake.empty():
            self._wake.put(None)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"smallmind-{self.name}", daemon=True)
        thread.start()
        self._thread = thread
        _stop_at_exit(self)

    def _ask_to_stop(self, *, discard: bool = False) -> None:
        with self._lock:
            self._stopping = True
            if discard:
                self._discard()
            self._wake.put(None)

    def _join(self, timeout_s: float) -> None:
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(max(0.0, timeout_s))
        if thread.is_alive():
            with self._lock:
                self._discard()

    def _discard(self) -> None:
        self._dropped += len(self._waiting)
        self._waiting.clear()

    def _run(self) -> None:
        while (work := self._next_work()) is not None:
            work()
        if self._flush_until_ns is not None:
            remaining_s = max(0.0, (self._flush_until_ns - now_ns()) / 1e9)
            self._try(lambda: self._exporter.flush(remaining_s))
        if self._closing:
            self._try(self._exporter.close)

    def _next_work(self) -> Callable[[], object] | None:
        """What the thread shall do next; None when it shall end."""
        dropped = self.dropped  # read before the lock is taken: the exporter has locks of its own
        with self._lock:
            if self._was_left_behind:
                return None
            if self._flushes and self._done >= self._flushes[0].target:
                return partial(self._answer, self._flushes.popleft())
            if self._waiting:
                self._lingers = True
                return partial(self._pass_on, *self._waiting.popleft())
            if self._stopping:
                self._ended = True
                return None
            newly_dropped = dropped - self._dropped_told
            self._dropped_told = dropped
            if newly_dropped > self._notices:
                self._notices = 0
                return partial(self._tell_drops, newly_dropped)
            # Only what told of losses was lost in turn: to tell of that would never end.
            self._notices -= newly_dropped
            # More may come soon, and need not wake it.
            lingers, self._lingers = self._lingers, False
            self._asleep = not lingers
            return partial(self._sleep, self._linger_s if lingers else None)

    def _sleep(self, timeout_s: float | None) -> None:
        with contextlib.suppress(Empty):
            self._wake.get(timeout=timeout_s)
            self._lingers = True  # what woke it may have been done before it slept
        self._asleep = False

    def _pass_on(self, event: Event, path: Path) -> None:
        """Pass on this event and those that wait, until there is something else to do."""
        begin_ns = now_ns()
        while True:
            succeeded = self._try(self._exporter.export, event, path=path)
            with self._lock:
                end_ns = now_ns()
                self._notices += _tells_of_losses(event)
                self._exported_ns += end_ns - begin_ns
                self._delivered += succeeded
                self._failed += not succeeded
                if not self._waiting or self._flushes or self._was_left_behind:
                    return
                event, path = self._waiting.popleft()
            begin_ns = end_ns

    def _answer(self, flush: _Flush) -> None:
        behind = FlushResult(failed=1)
        remaining_s = max(0.0, (flush.deadline_ns - now_ns()) / 1e9)

        def flush_exporter() -> None:
            nonlocal behind
            behind = self._exporter.flush(remaining_s)

        succeeded = self._try(flush_exporter)
        with self._lock:
            if succeeded and self.is_passed_by:
                self._told_delivered = max(self._told_delivered, behind.delivered)
            flush.answer.put(self._counts(flush.target, behind))

    @property
    def _was_left_behind(self) -> bool:
        """Whether it forked inside the exporter: the child's queue gets a thread of its own."""
        return self._thread is not threading.current_thread()

    def _try(self, call: Callable[..., object], *args: object, path: Path = ()) -> bool:
        """Whether the call into the exporter succeeded; its errors are told and end here."""
        state = inside()
        state.path = (*path, self._exporter)
        try:
            call(*args)
        except BaseException as error:  # noqa: BLE001 - this thread has no one above it to tell
            failure: BaseException | None = error
        else:
            failure = None
        state.path = ()
        deliver_deferred()
        if self._failing or failure is not None:
            self._failing = failure is not None
            self._tell(failure)
        return failure is None

    def _tell(self, error: BaseException | None) -> None:
        if self.on_error is not None:
            with contextlib.suppress(Exception):
                self.on_error(error)

    def _tell_drops(self, dropped: int) -> None:
        if self.on_drop is not None:
            with contextlib.suppress(Exception):
                self.on_drop(dropped)

    @property
    def _done(self) -> int:
        return self._delivered + self._failed + self._dropped

    def _counts(
        self, target: int, behind: FlushResult | None = None, *, timed_out: bool = False
    ) -> FlushResult:
        """What became of the first ``target`` events; what the exporter holds is pending."""
        held = behind or FlushResult()
        own = self._delivered - held.pending - held.failed - held.dropped
        return FlushResult(
            delivered=max(0, own, self._told_delivered),
            failed=self._failed + held.failed,
            dropped=self._dropped + held.dropped,
            pending=max(0, target - self._done) + held.pending,
            timed_out=timed_out or held.timed_out,
        )


def _tells_of_losses(event: Event) -> bool:
    return isinstance(event, Degraded) and event.reason is DegradeReason.EVENTS_DROPPED


def stop_together(queues: Iterable[QueuedExporter], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Stop several queues, sharing ``timeout_s`` seconds."""
    stopping = tuple(queues)
    for queue in stopping:
        queue._ask_to_stop()  # noqa: SLF001 - of this module
    deadline_ns = now_ns() + int(timeout_s * 1e9)
    for queue in stopping:
        queue._join((deadline_ns - now_ns()) / 1e9)  # noqa: SLF001 - of this module


_started: Final[WeakSet[QueuedExporter]] = WeakSet()


def _stop_at_exit(queue: QueuedExporter) -> None:
    """Have the queue emptied at exit.

    Registered when a first thread starts rather than on import: exit handlers run in reverse
    order, so the sinks that were set up before (``logging``, say) are still open then.
    """
    if not _started:
        atexit.unregister(_stop_started)
        atexit.register(_stop_started)
    _started.add(queue)


def _stop_started() -> None:
    deadline_ns = now_ns() + int(STOP_TIMEOUT_S * 1e9)
    for queue in list(_started):
        queue._flush_until_ns = deadline_ns  # noqa: SLF001 - of this module
    stop_together(list(_started))
