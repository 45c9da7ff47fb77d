"""Keeps the events of each live operation until it ends, within bounds."""

from __future__ import annotations

from collections import deque
from typing import Final

from smallmind_engine.telemetry import (
    Correlation,
    Degraded,
    Event,
    EventKind,
    KernelExecuted,
    TokenGenerated,
)

MAX_LIVE: Final = 4096
MAX_STEPS: Final = 256

REQUEST: Final = "request"
# Operations by the kinds of the events that begin and end them.
OPERATIONS: Final[dict[EventKind, EventKind]] = {
    EventKind.REQUEST_QUEUED: EventKind.INFERENCE_STOPPED,
    EventKind.MODEL_LOAD_STARTED: EventKind.MODEL_LOAD_ENDED,
    EventKind.RETRIEVAL_STARTED: EventKind.RETRIEVAL_ENDED,
}
WHOLE: Final = EventKind.EMBEDDING_ENDED
"""Operations that are told by one event, at their end."""
OPENING: Final = sum(OPERATIONS)
CLOSING: Final = sum(OPERATIONS.values())
# What belongs to an operation when one is live; outside of one it is no part of a trace.
STEPS: Final = (
    EventKind.REQUEST_ADMITTED
    | EventKind.REQUEST_REJECTED
    | EventKind.INFERENCE_STARTED
    | EventKind.PREFILL_ENDED
    | EventKind.FIRST_TOKEN
    | EventKind.KV_CACHE_LOOKUP
    | EventKind.KV_CACHE_EVICTED
    | EventKind.MEMORY_BUDGET
    | EventKind.DEGRADED
    | EventKind.BACKPRESSURE_APPLIED
    | EventKind.TOKENIZER_DIAGNOSED
    | EventKind.KERNELS_PREPARED
    | EventKind.RUNTIME_STALL
)
DETAILS: Final = EventKind.TOKEN_GENERATED | EventKind.KERNEL_EXECUTED
KINDS: Final = OPENING | CLOSING | WHOLE | STEPS | DETAILS


class Record:
    """The events of one operation so far.

    Attributes:
        correlation: its ids.
        steps: events of its life, at most ``MAX_STEPS``; the opening and closing ones included.
        tokens: the last tokens, at most as many as the ring holds.
        kernels: the last operations of the model, likewise.
        events: how many events it stands for.
        slowest_token_s: most seconds that the engine worked between two tokens.
        token_count: tokens seen, those that left the ring included.
        kernel_count: the same for operations.
    """

    __slots__ = (
        "correlation",
        "events",
        "kernel_count",
        "kernels",
        "slowest_token_s",
        "steps",
        "token_count",
        "tokens",
    )

    def __init__(self, correlation: Correlation, ring: int) -> None:
        self.correlation = correlation
        self.steps: list[Event] = []
        self.tokens: deque[TokenGenerated] = deque(maxlen=ring)
        self.kernels: deque[KernelExecuted] = deque(maxlen=ring)
        self.events = 0
        self.slowest_token_s = 0.0
        self.token_count = 0
        self.kernel_count = 0

    def add(self, event: Event) -> None:
        """Keep one event."""
        self.events += 1
        if isinstance(event, TokenGenerated):
            self.token_count += 1
            self.tokens.append(event)
            if event.index and event.engine_s > self.slowest_token_s:
                self.slowest_token_s = event.engine_s
        elif isinstance(event, KernelExecuted):
            self.kernel_count += 1
            self.kernels.append(event)
        elif len(self.steps) < MAX_STEPS or event.kind & CLOSING:
            self.steps.append(event)

    def first(self, kind: EventKind) -> Event | None:
        """The first step of that kind."""
        return next((step for step in self.steps if step.kind is kind), None)


class LiveRecords:
    """The records of operations that have not ended. Their owner does the locking.

    Operations are told apart by their ids; when a caller gave one id to several requests at once,
    by the very object that carries the ids, which all events of a request share.

    Args:
        ring: tokens, and operations of the model, that each keeps.
        limit: operations that may be live; when there are more the oldest is given up.
    """

    def __init__(self, ring: int, limit: int = MAX_LIVE) -> None:
        self._ring = ring
        self._limit = limit
        self._by_id: dict[str, list[Record]] = {}
        self._count = 0
        self.events = 0
        self.given_up = 0

    def take(self, event: Event) -> Record | None:
        """Keep one event; answers its record when the event closes it.

        An event that belongs to no live operation is not kept.
        """
        kind = event.kind
        if kind & WHOLE:
            whole = Record(event.correlation, 0)
            whole.add(event)
            return whole
        record = None if kind & OPENING else self._find(event.correlation)
        if record is None:
            if not (kind & (OPENING | CLOSING) or _opens_early(event)):
                return None
            record = self._open(event.correlation)
        record.add(event)
        self.events += 1
        if kind & CLOSING:
            self._close(record)
            return record
        return None

    def _find(self, ids: Correlation) -> Record | None:
        records = self._by_id.get(ids.request_id)
        if records is None:
            return None
        for record in records:
            if record.correlation is ids:
                return record
        return next((record for record in records if record.correlation == ids), None)

    def _open(self, ids: Correlation) -> Record:
        early = self._find(ids)
        if early is not None and early.first(EventKind.REQUEST_QUEUED) is None:
            return early
        if self._count >= self._limit:
            oldest = next(iter(self._by_id.values()))[0]
            self.given_up += oldest.events
            self._close(oldest)
        record = Record(ids, self._ring)
        self._by_id.setdefault(ids.request_id, []).append(record)
        self._count += 1
        return record

    def _close(self, record: Record) -> None:
        key = record.correlation.request_id
        records = self._by_id[key]
        records.remove(record)
        if not records:
            del self._by_id[key]
        self._count -= 1
        self.events -= record.events


def _opens_early(event: Event) -> bool:
    """A prompt is cut to size before its request is queued."""
    return isinstance(event, Degraded) and event.component == REQUEST
