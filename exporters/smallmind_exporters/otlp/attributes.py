"""The attributes of spans: one table, from which the spans and the page in the docs are made.

Names of the GenAI conventions where they have one, ``smallmind.*`` elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any, Final, TypeGuard

from smallmind_engine.telemetry import (
    EmbeddingEnded,
    Event,
    EventKind,
    InferenceStarted,
    InferenceStopped,
    ModelLoadEnded,
    ReasonCode,
    RequestRejected,
    RequestStatus,
    RetrievalEnded,
    StopReason,
)
from smallmind_engine.telemetry.text import safe_str
from smallmind_exporters import conventions
from smallmind_exporters.otlp.operation_attributes import (
    embedding_attributes,
    embedding_failure,
    retrieval_attributes,
    retrieval_failure,
)
from smallmind_exporters.otlp.records import Record

Value = str | bool | int | float | Sequence[str] | Sequence[int]
Attributes = Mapping[str, Value]

_INT64: Final = 2**63

# The conventions' words for why a generation ended; others keep ours, in lower case.
_FINISH_REASONS: Final[dict[StopReason, str]] = {
    StopReason.COMPLETED: "stop",
    StopReason.STOP_SEQUENCE: "stop",
    StopReason.MAX_TOKENS: "length",
    StopReason.CONTEXT_FULL: "length",
    StopReason.ERROR: "error",
}


@dataclass(frozen=True, slots=True)
class SpanAttribute:
    """A row of the table.

    Attributes:
        name: of the attribute.
        meaning: for the reference page.
        read: takes it from the record and the event that closed it; None leaves it out.
        at_start: whether a sampler sees it.
    """

    name: str
    meaning: str
    read: Callable[[Record, InferenceStopped], Value | None]
    at_start: bool = False


def _started(record: Record) -> InferenceStarted | None:
    event = record.first(EventKind.INFERENCE_STARTED)
    return event if isinstance(event, InferenceStarted) else None


def _max_tokens(record: Record, _: InferenceStopped) -> int | None:
    started = _started(record)
    return None if started is None else started.max_tokens


def _asked(option: str) -> Callable[[Record, InferenceStopped], float | None]:
    """Reads what was asked of the sampler."""

    def read(record: Record, _: InferenceStopped) -> float | None:
        started = _started(record)
        value = None if started is None else dict(started.sampling).get(option)
        return None if value is None else float(value)

    return read


def _seed(record: Record, _: InferenceStopped) -> int | None:
    started = _started(record)
    return None if started is None else started.seed


def _time_to_first_chunk(_: Record, stop: InferenceStopped) -> float | None:
    return stop.time_to_first_token_s if stop.streaming else None


def _reject_reason(record: Record, _: InferenceStopped) -> str | None:
    event = record.first(EventKind.REQUEST_REJECTED)
    return event.reason.value if isinstance(event, RequestRejected) else None


def error_type(stop: InferenceStopped) -> str | None:
    """What failed, as ``error.type``; None for what went well or was cancelled by its caller."""
    if stop.status in {RequestStatus.FAILED, RequestStatus.REJECTED}:
        return stop.error_type or ReasonCode(stop.reason.value).value
    return None


def finish_reason(stop: InferenceStopped) -> str:
    """Why it ended, in the word of the conventions."""
    return _FINISH_REASONS.get(stop.reason, stop.reason.value.lower())


REQUEST_ATTRIBUTES: Final[tuple[SpanAttribute, ...]] = (
    SpanAttribute(
        conventions.OPERATION_NAME,
        "`chat` or `text_completion`",
        lambda _, stop: stop.operation,
        at_start=True,
    ),
    SpanAttribute(
        conventions.PROVIDER_NAME,
        f"always `{conventions.PROVIDER}`",
        lambda _, __: conventions.PROVIDER,
        at_start=True,
    ),
    SpanAttribute(
        conventions.REQUEST_MODEL,
        "name under which the model was loaded",
        lambda _, stop: stop.model,
        at_start=True,
    ),
    SpanAttribute(conventions.RESPONSE_MODEL, "the same model", lambda _, stop: stop.model),
    SpanAttribute(
        conventions.RESPONSE_ID,
        "the id of the request, as on log lines and on the result",
        lambda record, _: record.correlation.request_id,
    ),
    SpanAttribute(
        conventions.CONVERSATION_ID,
        "the session's id, in a session",
        lambda record, _: record.correlation.session_id,
    ),
    SpanAttribute(
        conventions.REQUEST_STREAM,
        "true when the caller read chunk by chunk",
        lambda _, stop: stop.streaming or None,
    ),
    SpanAttribute(conventions.REQUEST_MAX_TOKENS, "most tokens to generate", _max_tokens),
    SpanAttribute(
        conventions.REQUEST_TEMPERATURE, "0 takes the likeliest token", _asked("temperature")
    ),
    SpanAttribute(conventions.REQUEST_TOP_P, "1 leaves all tokens in the draw", _asked("top_p")),
    SpanAttribute(conventions.REQUEST_TOP_K, "0 leaves all tokens in the draw", _asked("top_k")),
    SpanAttribute(conventions.REQUEST_FREQUENCY_PENALTY, "0 is off", _asked("frequency_penalty")),
    SpanAttribute(conventions.REQUEST_PRESENCE_PENALTY, "0 is off", _asked("presence_penalty")),
    SpanAttribute(conventions.REQUEST_SEED, "of the draws, when the request names one", _seed),
    SpanAttribute(
        conventions.RESPONSE_FINISH_REASONS,
        "one word: `stop`, `length`, `error`, or our stop reason in lower case",
        lambda _, stop: (finish_reason(stop),),
    ),
    SpanAttribute(
        conventions.RESPONSE_TIME_TO_FIRST_CHUNK,
        "seconds from submission to the first token, when streaming",
        _time_to_first_chunk,
    ),
    SpanAttribute(
        conventions.USAGE_INPUT_TOKENS,
        "tokens of the prompt, cached ones included",
        lambda _, stop: stop.prompt_tokens,
    ),
    SpanAttribute(
        conventions.USAGE_OUTPUT_TOKENS,
        "tokens that were generated",
        lambda _, stop: stop.completion_tokens,
    ),
    SpanAttribute(
        conventions.USAGE_CACHE_READ_INPUT_TOKENS,
        "tokens of the prompt that were found in a cache",
        lambda _, stop: stop.cached_tokens,
    ),
    SpanAttribute(
        conventions.ERROR_TYPE,
        "class of the error, or its reason code, when the request failed or was rejected",
        lambda _, stop: error_type(stop),
    ),
    SpanAttribute(
        "smallmind.status",
        "`completed`, `cancelled`, `rejected` or `failed`",
        lambda _, stop: stop.status.value,
    ),
    SpanAttribute("smallmind.stop_reason", "our stop reason", lambda _, stop: stop.reason.value),
    SpanAttribute(
        "smallmind.reject_reason", "reason code of a request turned away", _reject_reason
    ),
    SpanAttribute(
        "smallmind.non_finite_at",
        "where NaN or infinity first appeared, when that ended it",
        lambda _, stop: stop.non_finite_at or None,
    ),
    SpanAttribute("smallmind.backend", "what computed", lambda _, stop: stop.backend),
    SpanAttribute(
        "smallmind.time_to_first_token",
        "seconds from submission to the first token, streaming or not",
        lambda _, stop: stop.time_to_first_token_s,
    ),
    SpanAttribute(
        "smallmind.kv_cache.tokens", "tokens in its cache at the end", lambda _, s: s.kv_tokens
    ),
    SpanAttribute("smallmind.kv_cache.bytes", "bytes of them", lambda _, stop: stop.kv_bytes),
)

LEDGER_PREFIX: Final = "smallmind.phase."
QUALITY_PREFIX: Final = "smallmind.quality."
LOAD_PREFIX: Final = "smallmind.load."
DETAIL: Final = "smallmind.detail"
DETAIL_CAUSE: Final = "smallmind.detail.cause"
DETAIL_TOKENS_DROPPED: Final = "smallmind.detail.tokens_dropped"
DETAIL_KERNELS_DROPPED: Final = "smallmind.detail.kernels_dropped"
OUTPUT_TOKEN_IDS: Final = "smallmind.output.token_ids"  # noqa: S105 - an attribute

OTHER_ATTRIBUTES: Final[tuple[tuple[str, str], ...]] = (
    (
        f"{LEDGER_PREFIX}<phase>",
        "seconds on each account of the time ledger; they add up to the span",
    ),
    (
        f"{QUALITY_PREFIX}<signal>",
        "mean over its tokens of what `TokenQuality` tells, with `quality_signals` only",
    ),
    (DETAIL, "how much its events tell: `request`, `token` or `kernel`"),
    (DETAIL_CAUSE, "why it was expanded: `slow`, `failed` or `flagged`"),
    (DETAIL_TOKENS_DROPPED, "tokens that the ring had no room for, when expanded"),
    (DETAIL_KERNELS_DROPPED, "operations that the ring had no room for, when expanded"),
    (OUTPUT_TOKEN_IDS, "ids of the generated tokens, with the capture of content only"),
)


def request_attributes(record: Record, stop: InferenceStopped, *, at_start: bool) -> Attributes:
    """The attributes of a request's span: those a sampler sees, or all the others."""
    values = {
        row.name: row.read(record, stop) for row in REQUEST_ATTRIBUTES if row.at_start == at_start
    }
    if not at_start:
        values |= {f"{LEDGER_PREFIX}{phase}": seconds for phase, seconds in stop.ledger}
        values |= {f"{QUALITY_PREFIX}{name}": mean for name, mean in stop.quality}
    return cleaned(values)


@dataclass(frozen=True, slots=True)
class OperationSpan:
    """The span of an operation besides requests, made from the event that ends it.

    Attributes:
        label: what stands for its name on the reference page.
        name: of the span.
        attributes: of the span.
        failure: what the status says of a failed one; None for others.
        duration_s: seconds that it took.
    """

    label: str
    name: Callable[[Any], str]
    attributes: Callable[[Any], Mapping[str, object]]
    failure: Callable[[Any], str | None]
    duration_s: Callable[[Any], float]


def _load_attributes(end: ModelLoadEnded) -> Mapping[str, object]:
    # No name of the conventions here: backends would take the load for a call of the model.
    facts: dict[str, object] = {
        f"{LOAD_PREFIX}model": end.model,
        f"{LOAD_PREFIX}status": end.status.value,
        f"{LOAD_PREFIX}architecture": end.architecture,
        f"{LOAD_PREFIX}quantization": end.quantization,
        f"{LOAD_PREFIX}backend": end.backend,
        f"{LOAD_PREFIX}parameters": end.parameters,
        f"{LOAD_PREFIX}weight_bytes": end.weight_bytes,
        f"{LOAD_PREFIX}fingerprint": end.fingerprint,
        conventions.ERROR_TYPE: None if end.reason is None else end.reason.value,
    }
    return facts | {f"{LOAD_PREFIX}phase.{phase}": seconds for phase, seconds in end.phases}


def _load_failure(end: ModelLoadEnded) -> str | None:
    if end.status is not RequestStatus.FAILED:
        return None
    return "" if end.reason is None else end.reason.value


OPERATION_SPANS: Final[dict[type[Event], OperationSpan]] = {
    ModelLoadEnded: OperationSpan(
        "load {model}",
        lambda end: f"load {end.model}",
        _load_attributes,
        _load_failure,
        lambda end: end.duration_s,
    ),
    RetrievalEnded: OperationSpan(
        "retrieval {data source}",
        lambda end: f"{conventions.OPERATION_RETRIEVAL} {end.data_source}",
        retrieval_attributes,
        retrieval_failure,
        lambda end: end.duration_s,
    ),
    EmbeddingEnded: OperationSpan(
        "embeddings {model}",
        lambda end: f"{conventions.OPERATION_EMBEDDINGS} {end.model}",
        embedding_attributes,
        embedding_failure,
        lambda end: end.duration_s,
    ),
}


def event_attributes(event: Event, fields: Sequence[str]) -> Attributes:
    """Fields of an event as attributes in our namespace; those without a value are left out."""
    return cleaned({f"smallmind.{name}": getattr(event, name) for name in fields})


def plain_attributes(event: Event, fields: tuple[str, ...]) -> Attributes:
    """The same for fields that hold numbers, or names of our own, and so need no cleaning."""
    names, read = _reader(fields)
    return {name: v for name, v in zip(names, read(event), strict=True) if v is not None}


@cache
def _reader(fields: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[Event], Sequence[Value]]]:
    return tuple(f"smallmind.{name}" for name in fields), attrgetter(*fields)


def cleaned(values: Mapping[str, object]) -> Attributes:
    """Values that OTLP can carry; those that are None are left out."""
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: object) -> Value:
    """Numbers as they are; all else as text, or as a sequence of texts or of integers."""
    if isinstance(value, bool | float) or _is_int64(value):
        return value
    if isinstance(value, tuple):
        integers = all(map(_is_int64, value))
        return value if integers else tuple(clean_text(item) for item in value)
    return clean_text(value)


def _is_int64(value: object) -> TypeGuard[int]:
    """Whether OTLP has room for it as a number."""
    return isinstance(value, int) and -_INT64 <= value < _INT64


def clean_text(value: object) -> str:
    """Text that UTF-8 can carry: one lone surrogate would fail its whole batch."""
    return safe_str(value).encode("utf-8", "replace").decode("utf-8")
