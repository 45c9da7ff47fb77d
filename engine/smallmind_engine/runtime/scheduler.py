"""The scheduler: one thread that runs all requests of an engine, step by step, in batches.

All that it knows belongs to its thread. Others send it notes through a queue that never blocks
them, also from a signal handler or while the garbage collector runs. It calls nothing of the
user's but exporters, and no fault of a request ends it.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Final

from smallmind_engine.kernels import ModelRunner, Output
from smallmind_engine.runtime.admission import STALL_NS, Admission, running
from smallmind_engine.runtime.batch_observer import BatchObserver
from smallmind_engine.runtime.ending import end, stop_reason_of
from smallmind_engine.runtime.fork_pause import ForkPause
from smallmind_engine.runtime.gathering import ReaderGathering, gather_burst
from smallmind_engine.runtime.kv_store import KVStore
from smallmind_engine.runtime.options import EngineOptions
from smallmind_engine.runtime.request_queue import RequestQueue
from smallmind_engine.runtime.step_limit import StepLimit
from smallmind_engine.runtime.step_plan import Share, StepCounts, StepSpeed, plan_of
from smallmind_engine.runtime.work import DECODE, ENDED, PAUSED, PREFILL, RequestWork, Stage
from smallmind_engine.telemetry import Phase, ReasonCode, StopReason, now_ns
from smallmind_engine.telemetry.errors import InferenceError, OperationCancelledError
from smallmind_engine.telemetry.fork import pause_at_fork

IDLE_S: Final = 10.0
"""A thread without work ends after so long; the next request starts another."""

_JOIN_TIMEOUT_S: Final = 5.0
_MOST_PREFILLING: Final = 2


class Scheduler:
    """Runs requests. ``submit``, ``look_at``, ``drain`` and ``close`` are thread-safe.

    Args:
        runner: does the steps.
        store: lends the caches.
        options: of the engine.
        observer: tells of batches.

    Attributes:
        admission: counts requests, and turns those away that are too many.
        counts: what the steps did so far.
    """

    def __init__(
        self, runner: ModelRunner, store: KVStore, options: EngineOptions, observer: BatchObserver
    ) -> None:
        self._runner = runner
        self._store = store
        self._observer = observer
        self._most_running = options.max_concurrent_requests
        self._speed = StepSpeed(options.prefill_budget, runner.prefill_chunk)
        self._plan = plan_of(options, runner, self._speed)
        self._limit = StepLimit(self.attend)
        self.admission = Admission(options.max_concurrent_requests, options.max_queue_depth)
        self._at_work = ForkPause()
        self._begin_anew()
        pause_at_fork(self._at_work)

    def _begin_anew(self) -> None:
        self._notes: queue.SimpleQueue[RequestWork | None] = queue.SimpleQueue()
        self._at_work.begin_in_child()
        self._thread: threading.Thread | None = None
        self._queue = RequestQueue()
        self._live: list[RequestWork] = []
        self._stepping: list[Share] = []
        self._readers = ReaderGathering()
        self._interrupt = False
        self._closing = False
        self._next_deadline: float | None = None
        self.counts = StepCounts()

    # -- from other threads -------------------------------------------------------------------

    @property
    def live(self) -> tuple[RequestWork, ...]:
        """Admitted requests."""
        return tuple(self._live)

    @property
    def was_halted(self) -> bool:
        """Whether the last fork found the thread between two steps."""
        return self._at_work.was_halted

    @property
    def is_here(self) -> bool:
        """Whether the caller is the scheduler's own thread."""
        return threading.current_thread() is self._thread

    def submit(self, work: RequestWork) -> None:
        """Run a request; its end comes through its outlet.

        Raises:
            BackpressureError: the queue is full.
            ClosedError: the engine was closed, or is being drained.
        """
        work.submitted_ns = now_ns()
        with self.admission.lock:
            self.admission.check_room(self._live)
            if self._thread is None:
                thread = threading.Thread(None, self._work, "smallmind-scheduler", daemon=True)
                thread.start()
                self._thread = thread
            self.admission.enter(work)
            work.stage = Stage.QUEUED
            self._notes.put(work)

    def look_at(self, work: RequestWork) -> None:
        """Something about a request has changed: it is not wanted any more, or its reader came."""
        self._notes.put(work)

    def drain(self, timeout_s: float | None) -> bool:
        """Take no new requests, and wait for those there are; whether all ended in time."""
        return self.admission.drain(timeout_s, wait=not self.is_here)

    def close(self) -> None:
        """Take no new requests, and wait for the end of those there are: they were cancelled."""
        self.admission.drain(_JOIN_TIMEOUT_S, wait=not self.is_here)
        self._closing = True
        self._notes.put(None)  # wakes the thread
        thread = self._thread
        if thread is not None and not self.is_here:
            thread.join(_JOIN_TIMEOUT_S)

    # -- the loop -----------------------------------------------------------------------------

    def _work(self) -> None:
        with self.admission.lock:  # while it is being started
            if not self.is_here:  # Ctrl-C came; the next request starts another thread
                return
        while True:
            try:
                with self._at_work:
                    while not self._at_work.wanted:
                        self.attend()
                        if self._readers.expected:
                            self._readers.gather(self._live, self._notes, self._receive)
                        if not self._live and len(self._queue):
                            gather_burst(self.admission.expects_more, self._notes, self._receive)
                            self.attend()
                        if self._queue.lines or self.admission.starved:
                            self._admit()
                        if not (self._live and self._step()):
                            break
                    else:
                        continue
                if not self._wait():
                    return
            except BaseException as error:  # noqa: BLE001 - a fault of ours must not end the thread
                self._end_all(error)

    def _wait(self) -> bool:
        """Sleep until a note comes or a deadline passes; False when the thread is to end."""
        self._observer.rest(idle=not self._live)
        timeout = IDLE_S
        if self._next_deadline is not None:
            timeout = self._next_deadline - time.perf_counter()
        if len(self._queue):
            timeout = min(timeout, STALL_NS / 1e9)
        idle = self._closing and not (self._live or len(self._queue))
        if not idle:
            try:
                work = self._notes.get(timeout=max(timeout, 0.0))
            except queue.Empty:
                idle = timeout == IDLE_S
            else:
                if work is not None:
                    with self._at_work:
                        self._receive(work)
        with self.admission.lock:
            if not idle or self._live or len(self._queue) or not self._notes.empty():
                return True
            self._thread = None
            return False

    def _read_notes(self) -> None:
        while not self._notes.empty():
            work = self._notes.get_nowait()
            if work is not None:
                self._receive(work)
        if self._next_deadline is not None and time.perf_counter() >= self._next_deadline:
            for work in [*self._live, *self._queue]:
                self._receive(work)
            self._note_deadlines()

    def _receive(self, work: RequestWork) -> None:
        """Do what a request needs now, apart from steps."""
        if work.stage is ENDED or work.stage is Stage.NEW:
            return
        if not work.known:
            work.known = True
            self._queue.add(work)
            self._note_deadlines()
        reason = work.why_stop
        if reason is not None:
            if work.in_step:
                # A step in which others decode is short anyway.
                self._interrupt |= work.stage is PREFILL or len(self._stepping) == 1
            else:
                self._end(work, work.told_to_stop(reason), work.abort_failure)
        elif work.may_resume:
            try:
                reason = work.resume()
            except BaseException as error:  # noqa: BLE001 - the request's own fault
                self._end(work, stop_reason_of(error), error)
            else:
                if reason is not None:
                    self._end(work, reason)

    def attend(self) -> bool:
        """Called between steps and layers: whether the step under way is to be given up."""
        if not self._notes.empty() or self._next_deadline is not None:
            self._read_notes()
        return self._interrupt

    def _note_deadlines(self) -> None:
        now = time.perf_counter()
        self._next_deadline = min(
            (
                deadline
                for work in (*self._live, *self._queue)
                if (deadline := work.limit.deadline_s) is not None
                and not (work.in_step and deadline <= now)  # looked at when its step has ended
            ),
            default=None,
        )

    # -- admission ----------------------------------------------------------------------------

    def _admit(self) -> None:
        """Let requests in, as long as there are places and memory for them."""
        self.admission.starved = False
        while (work := self._queue.first()) is not None:
            if not self.admission.has_place(self._live):
                return
            prefilling = [other for other in self._live if other.stage is PREFILL]
            missing = sum(other.missing for other in prefilling)
            if len(prefilling) >= _MOST_PREFILLING and missing >= self._speed.budget(self._live):
                return
            if any(self._store.would_share(work.sequence, each.sequence) for each in prefilling):
                return  # one of them is just computing a beginning that this one could use
            emitter = work.observer.emitter
            for each in self._live:
                if each.stage is not PREFILL:
                    self._store.share_rest(each.slot, work.sequence, emitter)
            patient = running(self._live) > 0
            plan = self._store.plan(
                work.slot, work.sequence, work.capacity, emitter, patient=patient
            )
            if plan is None:
                self.admission.starved = True
                return
            self._queue.remove(work)
            self._live.append(work)
            work.admitted = True
            self.admission.leave_queue()
            work.ledger.enter(Phase.QUEUE)
            work.observer.admitted(len(self._queue), len(self._live))
            try:
                work.begin(plan)
            except BaseException as error:  # noqa: BLE001 - the request's own fault
                work.observer.rejected(
                    getattr(error, "reason", ReasonCode.ERROR),
                    len(self._queue),
                    self.admission.most_waiting,
                )
                self._end(work, stop_reason_of(error), error)

    # -- steps --------------------------------------------------------------------------------

    def _step(self) -> bool:
        """Run a step, when any request is ready for one. Hot path."""
        shares = self._plan(self._live)
        if not shares:
            return False
        observer = self._observer
        observer.begin()
        begin_ns = now_ns()
        decode = prefill = 0
        for work, count in shares:
            work.in_step = True
            work.stepped_ns = begin_ns
            if work.stage is DECODE:
                decode += 1
            else:
                prefill += count
        self._stepping = shares
        self._interrupt = False
        failure: Exception | None = None
        answers: list[Output] = []
        try:
            answers = self._runner.forward(
                [work.chunk(count) for work, count in shares],
                limit=self._limit,
                on_operations=observer.on_operations(shares) if observer.tells_operations else None,
            )
        except Exception as error:  # noqa: BLE001 - told to the request whose fault it is
            failure = error
        finally:
            self._stepping = []
            for work, _ in shares:
                work.in_step = False
        if failure is None:
            seconds = (now_ns() - begin_ns) / 1e9
            self._note_step(shares, prefill, decode, seconds)
            for (work, count), answer in zip(shares, answers, strict=True):
                self._advance(work, count, answer)
        else:
            self._recover(shares, failure)
        return True

    def _note_step(self, shares: list[Share], prefill: int, decode: int, seconds: float) -> None:
        counts = self.counts
        counts.steps += 1
        counts.prefill_tokens += prefill
        counts.decode_tokens += decode
        self._speed.note(prefill, decode, seconds)
        self._readers.step_s = seconds
        self._observer.stepped(
            shares, prefill, decode, seconds, self.admission.waiting, len(self._live)
        )

    def _advance(self, work: RequestWork, count: int, answer: Output) -> None:
        """Give a request its answer; whatever goes wrong is its own matter."""
        reason = work.why_stop
        failure = work.abort_failure
        if reason is None:
            try:
                reason = work.advance(count, answer)
            except BaseException as error:  # noqa: BLE001 - the request's own fault
                reason, failure = stop_reason_of(error), error
        if reason is not None:
            self._end(work, reason, failure)
        elif work.stage is PAUSED:
            if work.may_resume:
                self._receive(work)
            elif work.outlet.in_step:
                self._readers.expect(work)

    def _recover(self, shares: list[Share], failure: Exception) -> None:
        """A step came to nothing: end those that are to end, and find out whose fault it is."""
        for work, _ in shares:
            reason = work.why_stop
            if reason is not None:
                self._end(work, reason, work.abort_failure)
        if isinstance(failure, OperationCancelledError):
            self._note_deadlines()
            return
        left = [(work, count) for work, count in shares if work.stage is not ENDED]
        if len(left) == 1:
            self._end(left[0][0], stop_reason_of(failure), failure)
            return
        for work, count in left:
            try:
                (answer,) = self._runner.forward([work.chunk(count)], on_operations=None)
            except Exception as error:  # noqa: BLE001 - now it is known whose
                self._end(work, stop_reason_of(error), error)
            else:
                self._advance(work, count, answer)

    # -- ends ---------------------------------------------------------------------------------

    def _end(
        self, work: RequestWork, reason: StopReason, failure: BaseException | None = None
    ) -> None:
        if work.stage is ENDED:
            return
        if work.admitted:
            self._live.remove(work)
        else:
            self._queue.remove(work)
            self.admission.leave_queue()
        rest = end(work, reason, failure)
        self._note_deadlines()
        self.admission.leave()
        work.outlet.end(rest)

    def _end_all(self, error: BaseException) -> None:
        """End all requests after a fault of the scheduler itself."""
        for work in [*self._live, *self._queue]:
            failure = InferenceError(ReasonCode.ERROR, f"the scheduler failed: {error!r}")
            failure.__cause__ = error
            self._end(work, StopReason.ERROR, failure)

    # -- forks --------------------------------------------------------------------------------

    def begin_in_child(self) -> list[RequestWork]:
        """Begin without a thread and without requests; answers those that there were."""
        lost = [*self._live, *self._queue]
        self.admission.begin_in_child()
        self._begin_anew()
        return lost
