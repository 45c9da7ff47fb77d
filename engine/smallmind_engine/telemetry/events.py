"""The events that the engine publishes, as immutable slotted records.

Names are past tense; durations are seconds; sizes are bytes. No event carries text of a prompt or
completion.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from smallmind_engine.telemetry.correlation import Correlation
from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.kinds import EventKind
from smallmind_engine.telemetry.reasons import (
    DegradeReason,
    ReasonCode,
    RequestStatus,
    StopReason,
)


@event
class Event:
    """What every event carries.

    Attributes:
        kind: what it is about.
        is_frequent: whether the kind is one of those that come with every token.
        sequence: number of the event in this process, counted without gaps from 1.
        time_ns: monotonic clock; ``clock.ANCHOR`` ties it to wall time.
        correlation: the ids of the request or operation it belongs to.
    """

    kind: ClassVar[EventKind]
    is_frequent: ClassVar[bool] = False

    sequence: int
    time_ns: int
    correlation: Correlation


class LogLevel(IntEnum):
    """Severity of a log event."""

    TRACE = 0
    DEBUG = 1
    INFO = 2
    WARN = 3
    ERROR = 4


@event
class RuntimeLogEvent(Event):
    """A log line with four fixed slots for properties.

    Attributes:
        level: severity.
        component: the part of the system that speaks, such as ``gguf`` or ``runtime``.
        message: one sentence without values in it; values go into the slots.
        reason: the reason code, when there is one.
        error: type name of the exception it reports, when there is one.
        key1: name of the first property; empty when the slot is not used.
        value1: its value; likewise for the other three.
    """

    kind = EventKind.LOG

    level: LogLevel
    component: str
    message: str
    reason: ReasonCode | None = None
    error: str | None = None
    key1: str = ""
    value1: object = None
    key2: str = ""
    value2: object = None
    key3: str = ""
    value3: object = None
    key4: str = ""
    value4: object = None

    @property
    def properties(self) -> dict[str, object]:
        """The used slots, by name."""
        slots = (
            (self.key1, self.value1),
            (self.key2, self.value2),
            (self.key3, self.value3),
            (self.key4, self.value4),
        )
        return {key: value for key, value in slots if key}


@event
class ModelLoadStarted(Event):
    """Loading began."""

    kind = EventKind.MODEL_LOAD_STARTED

    model: str
    file_bytes: int


@event
class ModelLoadProgress(Event):
    """A step of loading got further; ``done`` of ``total`` bytes of ``phase``."""

    kind = EventKind.MODEL_LOAD_PROGRESS

    model: str
    phase: str
    done: int
    total: int


@event
class ModelLoadEnded(Event):
    """Loading succeeded or failed (``reason`` is then set).

    Attributes:
        phases: seconds by phase, in order, such as ``(("read", 0.1), ("weights", 0.5))``.
    """

    kind = EventKind.MODEL_LOAD_ENDED

    model: str
    status: RequestStatus
    duration_s: float
    architecture: str = ""
    quantization: str = ""
    backend: str = ""
    parameters: int = 0
    weight_bytes: int = 0
    context_length: int = 0
    fingerprint: str = ""
    phases: tuple[tuple[str, float], ...] = ()
    reason: ReasonCode | None = None


@event
class TokenizerDiagnosed(Event):
    """The tokenizer was built; tells from what, and which fallback was taken."""

    kind = EventKind.TOKENIZER_DIAGNOSED

    model: str
    tokenizer_type: str
    tokenizer_kind: str
    vocab_size: int
    merge_count: int
    issues: tuple[DegradeReason, ...] = ()


@event
class RequestQueued(Event):
    """A request was submitted. ``queue_depth`` counts those waiting, itself included."""

    kind = EventKind.REQUEST_QUEUED

    model: str
    queue_depth: int


@event
class RequestAdmitted(Event):
    """A request left the queue. ``in_flight`` counts those running, itself included."""

    kind = EventKind.REQUEST_ADMITTED

    model: str
    queue_s: float
    queue_depth: int
    in_flight: int


@event
class RequestRejected(Event):
    """A request was turned away before it ran."""

    kind = EventKind.REQUEST_REJECTED

    model: str
    reason: ReasonCode
    queue_depth: int
    limit: int


@event
class InferenceStarted(Event):
    """The model began to work on a request.

    Attributes:
        sampling: options of the choice of tokens, by name, as they were asked for.
        seed: of the draws, when the request names one.
    """

    kind = EventKind.INFERENCE_STARTED

    model: str
    backend: str
    operation: str
    streaming: bool
    prompt_tokens: int
    max_tokens: int
    sampling: tuple[tuple[str, float], ...] = ()
    seed: int | None = None


@event
class PrefillEnded(Event):
    """The prompt is in the KV cache. ``computed_tokens`` leaves out the reused ones."""

    kind = EventKind.PREFILL_ENDED

    model: str
    computed_tokens: int
    cached_tokens: int
    duration_s: float


@event
class FirstToken(Event):
    """The first token is known. The time counts from the submission of the request."""

    kind = EventKind.FIRST_TOKEN

    model: str
    time_to_first_token_s: float


@event
class TokenGenerated(Event):
    """A token is known.

    Attributes:
        index: 0 for the first token of the completion.
        engine_s: time since the previous token that the engine worked.
        consumer_s: time since the previous token that the reader of the stream held it up.
        token_id: only set when the capture of content is switched on.
    """

    kind = EventKind.TOKEN_GENERATED

    model: str
    index: int
    engine_s: float
    consumer_s: float
    token_id: int | None = None


@event
class InferenceStopped(Event):
    """A request ended, in whatever way: each request that was queued has exactly one.

    Attributes:
        operation: ``text_completion`` or ``chat``.
        error_type: class name of the error when it failed or was rejected.
        duration_s: from submission to end.
        time_to_first_token_s: None when there was no token.
        ledger: seconds by phase, in the order of ``Phase``; they add up to ``duration_s``.
        kv_tokens: tokens in the request's KV cache at its end.
        kv_bytes: bytes of that cache that are in use.
        quality: means over its tokens of what ``TokenQuality`` tells of each, by name; empty
            without ``quality_signals``.
        non_finite_at: where NaN or infinity first appeared, when that ended the request:
            ``embedding``, ``layer 7`` or ``output``.
    """

    kind = EventKind.INFERENCE_STOPPED

    model: str
    backend: str
    operation: str
    streaming: bool
    status: RequestStatus
    reason: StopReason
    error_type: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    duration_s: float
    time_to_first_token_s: float | None
    ledger: tuple[tuple[str, float], ...]
    kv_tokens: int = 0
    kv_bytes: int = 0
    quality: tuple[tuple[str, float], ...] = ()
    non_finite_at: str = ""


@event
class KVCacheLookup(Event):
    """A prompt was looked up in its session's cache, and among the prefixes that others computed.

    A hit is when any token could be reused.
    """

    kind = EventKind.KV_CACHE_LOOKUP

    model: str
    hit: bool
    prompt_tokens: int
    reused_tokens: int


@event
class KVCacheEvicted(Event):
    """An idle session's cache, or shared blocks that nobody used, were dropped to make room."""

    kind = EventKind.KV_CACHE_EVICTED

    model: str
    tokens: int
    freed_bytes: int
    reason: DegradeReason


@event
class KVCacheUsage(Event):
    """How full the KV caches are, over all requests and sessions of the engine."""

    kind = EventKind.KV_CACHE_USAGE

    model: str
    used_tokens: int
    capacity_tokens: int
    used_bytes: int


@event
class MemoryHighWater(Event):
    """A category of memory reached a new maximum."""

    kind = EventKind.MEMORY_HIGH_WATER

    model: str
    category: str
    high_water_bytes: int


@event
class MemoryBudgetEvent(Event):
    """The budget gave less than was asked for (soft limit), or refused (exceeded)."""

    kind = EventKind.MEMORY_BUDGET

    model: str
    reason: ReasonCode
    category: str
    wanted_bytes: int
    granted_bytes: int
    limit_bytes: int


@event
class Degraded(Event):
    """Something works, but less well than asked for."""

    kind = EventKind.DEGRADED

    component: str
    reason: DegradeReason
    message: str


@event
class BackpressureApplied(Event):
    """A full queue or buffer had an effect: ``policy`` tells which."""

    kind = EventKind.BACKPRESSURE_APPLIED

    model: str
    reason: ReasonCode
    policy: str
    depth: int
    limit: int
