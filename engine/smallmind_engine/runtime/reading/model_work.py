"""Work on the model beside generation: its ids, limit, place in the queue, caches and steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from smallmind_engine.cache import KVCache
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.kernels import Chunk, Output
from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.kv_slot import CacheSlot
from smallmind_engine.runtime.work_gate import Visit
from smallmind_engine.telemetry import ReasonCode, RequestStatus, new_correlation, now_ns
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    MemoryBudgetError,
    OperationCancelledError,
    invalid_option,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkOptions:
    """What all work has.

    Attributes:
        cancellation: stops it from elsewhere.
        request_timeout: seconds from submission until it is stopped.
        traceparent: W3C trace context of the caller.
        tracestate: what belongs to it, as in the W3C header of that name.
        request_id: the caller's own id for it.
    """

    cancellation: CancellationToken | None = None
    request_timeout: float | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        timeout = self.request_timeout
        if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
            raise invalid_option("request_timeout", timeout, "a positive number of seconds")


class ModelWork:
    """One piece of work. Belongs to one thread at a time; ``cancel`` may come from any.

    Args:
        core: the engine.
        options: of the work.
        name: in messages, such as ``embedding``.

    Attributes:
        correlation: the ids of the work.
        emitter: publishes with them.
        limit: stops it.
        queue_s: seconds that it waited for its turn.
    """

    def __init__(self, core: EngineCore, options: WorkOptions, name: str) -> None:
        core.check_open()
        self._core = core
        self._name = name
        self._begin_ns = now_ns()
        self.correlation = new_correlation(
            traceparent=options.traceparent,
            tracestate=options.tracestate,
            request_id=options.request_id,
        )
        self.emitter = core.bus.emitter(self.correlation)
        parents = [token for token in (core.closing, options.cancellation) if token is not None]
        self._token = CancellationToken(*parents)
        self.limit = WorkLimit.within(options.request_timeout, self._token)
        self.queue_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since submission."""
        return (now_ns() - self._begin_ns) / 1e9

    def cancel(self) -> None:
        """Stop within a step."""
        self._token.cancel()

    @contextmanager
    def begun(self) -> Iterator[None]:
        """The work, from its beginning to the telling of its end, inside the ``with`` block."""
        with self._core.arrivals.held():
            yield

    def check_room(self) -> None:
        """Where the queue is full already, spare everybody the reading of the texts.

        Raises:
            BackpressureError: the queue is full.
            ClosedError: the engine was closed.
        """
        self._core.gate.check_room()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Wait for a turn among the engine's requests, and keep it inside the ``with`` block.

        Raises:
            BackpressureError: the queue is full.
            OperationCancelledError: stopped while waiting.
            ClosedError: the engine was closed.
        """
        gate, visit, begin_ns = self._core.gate, Visit(), now_ns()
        try:
            stopped = gate.enter(visit, self.limit, self._token)
            self.queue_s += (now_ns() - begin_ns) / 1e9
            if stopped is not None:
                raise OperationCancelledError(
                    stopped, f"{self._name} was stopped in the queue", work=self._name
                )
            yield
        finally:
            try:
                gate.leave(visit)
            except KeyboardInterrupt:  # before it, or in its midst
                gate.leave(visit)
                raise

    @contextmanager
    def caches(self, sequences: Sequence[Sequence[int]]) -> Iterator[list[KVCache]]:
        """Empty caches with room for these tokens, inside the ``with`` block.

        Raises:
            MemoryBudgetError: they do not fit the budget.
        """
        core = self._core
        if not core.model.spec.causal:  # an encoder keeps nothing
            yield [core.model.runner.new_cache(len(ids)) for ids in sequences]
            return
        slots: list[CacheSlot] = []
        try:
            # One token of each is looked up, which is none that could be taken over.
            lent = [self._lent(slots, ids[:1], len(ids)) for ids in sequences]
            yield [cache for cache, _ in lent]
        finally:
            try:
                self._give_back(slots)
            except KeyboardInterrupt:  # before it, or in its midst
                self._give_back(slots)
                raise

    @contextmanager
    def prefixed_cache(
        self, ids: Sequence[int], prompt_tokens: int
    ) -> Iterator[tuple[KVCache, int]]:
        """A cache with room for ``ids``, and how much of the prompt others have computed.

        The last token of the prompt is not among it. When nothing is raised inside the ``with``
        block, others may use what was computed.

        Raises:
            MemoryBudgetError: it does not fit the budget.
        """
        slots: list[CacheSlot] = []
        sound = False
        try:
            cache, reused = self._lent(slots, ids[:prompt_tokens], len(ids), told=True)
            yield cache, reused
            slots[0].token_ids = list(ids[: cache.length])
            sound = True
        finally:
            try:
                self._give_back(slots, sound=sound)
            except KeyboardInterrupt:  # before it, or in its midst
                self._give_back(slots)
                raise

    def _give_back(self, slots: Sequence[CacheSlot], *, sound: bool = False) -> None:
        for slot in slots:
            self._core.kv_store.give_back(slot, keep=False, emitter=self.emitter, sound=sound)

    def _lent(
        self, slots: list[CacheSlot], ids: Sequence[int], tokens: int, *, told: bool = False
    ) -> tuple[KVCache, int]:
        """Add a slot whose cache holds so many tokens, no fewer."""
        store, slot = self._core.kv_store, CacheSlot()
        plan = store.plan(slot, ids, tokens, self.emitter, patient=False)
        if plan is None:  # pragma: no cover - a fresh slot is in nobody's use
            raise RuntimeError
        slots.append(slot)
        return store.lend(replace(plan, least=plan.wanted), self.emitter, told=told)

    def forward(self, chunks: Sequence[Chunk]) -> list[Output]:
        """One step of the model.

        Raises:
            OperationCancelledError: the limit was reached.
        """
        self.limit.check(self._name)
        return self._core.model.runner.forward(chunks, limit=self.limit)

    def close(self) -> None:
        """Let go of the caller's token."""
        self._token.close()


def status_of_error(error: BaseException | None) -> tuple[RequestStatus, ReasonCode]:
    """How work ended, for its event, by what it raised."""
    if error is None:
        return RequestStatus.COMPLETED, ReasonCode.COMPLETED
    if isinstance(error, KeyboardInterrupt):
        return RequestStatus.CANCELLED, ReasonCode.CANCELLED_BY_CALLER
    reason = getattr(error, "reason", ReasonCode.ERROR)
    if isinstance(error, OperationCancelledError):
        return RequestStatus.CANCELLED, reason
    if isinstance(error, BackpressureError | MemoryBudgetError):
        return RequestStatus.REJECTED, reason
    return RequestStatus.FAILED, reason
