"""Lifecycle events in the words of a log: which are worth a line, and how it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from smallmind_engine.telemetry.embedding_events import EmbeddingEnded
from smallmind_engine.telemetry.events import (
    BackpressureApplied,
    Degraded,
    Event,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    KVCacheEvicted,
    KVCacheLookup,
    LogLevel,
    MemoryBudgetEvent,
    MemoryHighWater,
    ModelLoadEnded,
    ModelLoadStarted,
    PrefillEnded,
    RequestAdmitted,
    RequestQueued,
    RequestRejected,
    RuntimeLogEvent,
    TokenizerDiagnosed,
)
from smallmind_engine.telemetry.grammar_events import GrammarApplied
from smallmind_engine.telemetry.insight_events import RuntimeStalled
from smallmind_engine.telemetry.kernel_events import KernelsPrepared, MachineMeasured
from smallmind_engine.telemetry.kinds import EventKind
from smallmind_engine.telemetry.reasons import ReasonCode, RequestStatus
from smallmind_engine.telemetry.retrieval_events import RetrievalEnded, RetrievalStarted


@dataclass(frozen=True, slots=True)
class _Line:
    """How a kind of event reads in a log.

    Attributes:
        component: who speaks.
        message: one sentence.
        fields: up to four fields of the event, as properties.
        level: fixed, or by the event.
    """

    component: str
    message: str
    fields: tuple[str, ...]
    level: Callable[[Event], LogLevel]


def _always(level: LogLevel) -> Callable[[Event], LogLevel]:
    return lambda _: level


def _by_status(event: Event) -> LogLevel:
    """Error for what failed, warning for what was turned away."""
    match event:
        case (
            ModelLoadEnded(status=status)
            | InferenceStopped(status=status)
            | EmbeddingEnded(status=status)
            | RetrievalEnded(status=status)
        ):
            if status is RequestStatus.FAILED:
                return LogLevel.ERROR
            return LogLevel.WARN if status is RequestStatus.REJECTED else LogLevel.INFO
    return LogLevel.INFO


def _by_issues(event: Event) -> LogLevel:
    has_issues = isinstance(event, TokenizerDiagnosed) and bool(event.issues)
    return LogLevel.WARN if has_issues else LogLevel.INFO


_DEBUG: Final = _always(LogLevel.DEBUG)
_INFO: Final = _always(LogLevel.INFO)
_WARN: Final = _always(LogLevel.WARN)

_LINES: Final[dict[type[Event], _Line]] = {
    ModelLoadStarted: _Line("model", "loading began", ("model", "file_bytes"), _INFO),
    ModelLoadEnded: _Line(
        "model", "loading ended", ("model", "status", "duration_s", "weight_bytes"), _by_status
    ),
    KernelsPrepared: _Line(
        "kernels", "the kernels are ready", ("isa", "compiled", "cached", "duration_s"), _INFO
    ),
    MachineMeasured: _Line(
        "kernels",
        "the machine was measured",
        ("threads", "read_bytes_per_second", "flops_per_second", "byte_ops_per_second"),
        _INFO,
    ),
    TokenizerDiagnosed: _Line(
        "tokenizer",
        "the tokenizer is built",
        ("tokenizer_type", "tokenizer_kind", "vocab_size", "issues"),
        _by_issues,
    ),
    RequestQueued: _Line("runtime", "a request was queued", ("model", "queue_depth"), _DEBUG),
    RequestAdmitted: _Line(
        "runtime",
        "a request left the queue",
        ("model", "queue_s", "queue_depth", "in_flight"),
        _DEBUG,
    ),
    RequestRejected: _Line(
        "runtime", "a request was turned away", ("model", "queue_depth", "limit"), _WARN
    ),
    InferenceStarted: _Line(
        "runtime",
        "inference began",
        ("model", "operation", "prompt_tokens", "max_tokens"),
        _DEBUG,
    ),
    PrefillEnded: _Line(
        "runtime",
        "the prompt is in the cache",
        ("model", "computed_tokens", "cached_tokens", "duration_s"),
        _DEBUG,
    ),
    FirstToken: _Line(
        "runtime", "the first token is known", ("model", "time_to_first_token_s"), _DEBUG
    ),
    InferenceStopped: _Line(
        "runtime",
        "inference ended",
        ("model", "status", "completion_tokens", "duration_s"),
        _by_status,
    ),
    EmbeddingEnded: _Line(
        "runtime", "embedding ended", ("model", "texts", "tokens", "duration_s"), _by_status
    ),
    GrammarApplied: _Line(
        "runtime",
        "an answer was held to a grammar",
        ("format", "complete", "masks", "mask_s"),
        _DEBUG,
    ),
    KVCacheLookup: _Line(
        "cache",
        "a prompt was looked up in the cache",
        ("model", "hit", "prompt_tokens", "reused_tokens"),
        _DEBUG,
    ),
    KVCacheEvicted: _Line(
        "cache", "an idle cache was dropped", ("model", "tokens", "freed_bytes"), _INFO
    ),
    MemoryHighWater: _Line(
        "memory", "a new high-water mark", ("model", "category", "high_water_bytes"), _DEBUG
    ),
    MemoryBudgetEvent: _Line(
        "memory",
        "the memory budget gave less than was asked for",
        ("category", "wanted_bytes", "granted_bytes", "limit_bytes"),
        _WARN,
    ),
    Degraded: _Line("", "", (), _WARN),
    RuntimeStalled: _Line(
        "runtime", "a token was late", ("index", "duration_s", "cause", "explanation"), _WARN
    ),
    RetrievalStarted: _Line("rag", "a retrieval began", ("data_source", "mode", "top_k"), _DEBUG),
    RetrievalEnded: _Line(
        "rag",
        "a retrieval ended",
        ("data_source", "status", "returned", "duration_s"),
        _by_status,
    ),
    BackpressureApplied: _Line(
        "runtime", "back-pressure was applied", ("model", "policy", "depth", "limit"), _WARN
    ),
}

NOTABLE_KINDS: Final = sum(event_type.kind for event_type in _LINES)
"""Mask of the lifecycle kinds that have a line; those of each token are not among them."""


def as_log_event(event: Event) -> RuntimeLogEvent | None:
    """A log event that tells of a lifecycle event, with its sequence, time and ids.

    A log event is given back as it is; None stands for the kinds that have no line.
    """
    if event.kind is EventKind.LOG:
        return event if isinstance(event, RuntimeLogEvent) else None
    line = _LINES.get(type(event))
    if line is None:
        return None
    component, message = line.component, line.message
    if isinstance(event, Degraded):
        component, message = event.component, event.message
    reason = getattr(event, "reason", None)
    slots = [part for name in line.fields for part in (name, _short(getattr(event, name)))]
    return RuntimeLogEvent(
        event.sequence,
        event.time_ns,
        event.correlation,
        line.level(event),
        component,
        message,
        None if reason is None else ReasonCode(reason),
        getattr(event, "error_type", "") or None,
        *slots,  # type: ignore[arg-type]  # key, value
    )


def _short(value: object) -> object:
    """Durations to the microsecond, tuples as comma-separated words."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value
