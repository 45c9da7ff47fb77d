"""What the lines say: one canonical line for each request, one for each notable event.

The keys of the canonical line are a table, from which the page in the docs is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from smallmind_engine.telemetry import (
    ANCHOR,
    Event,
    EventKind,
    LogLevel,
    RequestStatus,
    RuntimeLogEvent,
    as_log_event,
)
from smallmind_engine.telemetry.events import InferenceStopped
from smallmind_engine.telemetry.log_rendering import NOTABLE_KINDS
from smallmind_engine.telemetry.text import MAX_CHARS, safe_str

CANONICAL_EVENT: Final = "request"
PHASE_PREFIX: Final = "phase_"
QUALITY_PREFIX: Final = "quality_"

# Steps of a request that its canonical line sums up.
_SUMMED_UP: Final = (
    EventKind.REQUEST_QUEUED
    | EventKind.REQUEST_ADMITTED
    | EventKind.INFERENCE_STARTED
    | EventKind.PREFILL_ENDED
    | EventKind.FIRST_TOKEN
    | EventKind.KV_CACHE_LOOKUP
    | EventKind.MEMORY_HIGH_WATER
)
NOTABLE: Final = int(NOTABLE_KINDS & ~_SUMMED_UP | EventKind.LOG)
# The engine's own log line for the end of a request, which the canonical line replaces.
_ALSO_TOLD: Final = ("runtime", "request stopped")
# Names of parameters of structlog's methods, and keys that its processors act upon.
_RESERVED: Final = frozenset(
    {"event", "self", "method_name", "exc_info", "stack_info", "stack", "exception"}
)

_LEVELS: Final = {RequestStatus.FAILED: LogLevel.ERROR, RequestStatus.REJECTED: LogLevel.WARN}


@dataclass(frozen=True, slots=True)
class Line:
    """One log line.

    Attributes:
        level: severity.
        event: what happened, in a few words.
        values: the rest, by key; nothing but numbers, booleans and one-line texts.
    """

    level: LogLevel
    event: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Key:
    """A row of the table of canonical keys.

    Attributes:
        name: of the key.
        meaning: for the reference page.
        read: takes the value; None leaves the key out.
    """

    name: str
    meaning: str
    read: Callable[[InferenceStopped], object]


CANONICAL_KEYS: Final[tuple[Key, ...]] = (
    Key("model", "name under which the model was loaded", lambda e: e.model),
    Key("backend", "what computed", lambda e: e.backend),
    Key("operation", "`text_completion` or `chat`", lambda e: e.operation),
    Key("streaming", "whether the caller read chunk by chunk", lambda e: e.streaming),
    Key("status", "`completed`, `cancelled`, `rejected` or `failed`", lambda e: e.status.value),
    Key("reason", "the stop reason", lambda e: e.reason.value),
    Key("error", "class of the error, when it failed", lambda e: e.error_type or None),
    Key("prompt_tokens", "tokens of the prompt", lambda e: e.prompt_tokens),
    Key("cached_tokens", "those of them found in a cache", lambda e: e.cached_tokens),
    Key("completion_tokens", "tokens generated", lambda e: e.completion_tokens),
    Key("duration_s", "seconds from submission to end", lambda e: round(e.duration_s, 6)),
    Key(
        "time_to_first_token_s",
        "seconds from submission to the first token, when there was one",
        lambda e: None if e.time_to_first_token_s is None else round(e.time_to_first_token_s, 6),
    ),
    Key("kv_tokens", "tokens in its KV cache at the end", lambda e: e.kv_tokens),
    Key("kv_bytes", "bytes of them", lambda e: e.kv_bytes),
    Key(
        "non_finite_at",
        "where NaN or infinity first appeared, when that ended it",
        lambda e: e.non_finite_at or None,
    ),
)
ID_KEYS: Final[tuple[tuple[str, str], ...]] = (
    ("request_id", "the request, as on its result"),
    ("session_id", "its session, in one"),
    ("trace_id", "W3C trace id, 32 hex digits"),
    ("span_id", "W3C span id, 16 hex digits"),
    ("occurred_at", "when it happened, ISO 8601 in UTC; the line may be written later"),
)


def line_of(event: Event) -> Line | None:
    """The line of an event; None for those without one."""
    if isinstance(event, InferenceStopped):
        return _canonical(event)
    told = as_log_event(event)
    if told is None or (told.component, told.message) == _ALSO_TOLD:
        return None
    return _notable(told)


def _canonical(stop: InferenceStopped) -> Line:
    values = {key.name: key.read(stop) for key in CANONICAL_KEYS}
    values |= {f"{PHASE_PREFIX}{phase}_s": round(took, 6) for phase, took in stop.ledger}
    values |= {f"{QUALITY_PREFIX}{name}": round(mean, 6) for name, mean in stop.quality}
    return _line(_LEVELS.get(stop.status, LogLevel.INFO), CANONICAL_EVENT, values, stop)


def _notable(told: RuntimeLogEvent) -> Line:
    values: dict[str, object] = {
        "component": told.component,
        "reason": None if told.reason is None else told.reason.value,
        "error": told.error,
        **told.properties,
    }
    return _line(told.level, told.message, values, told)


def _line(level: LogLevel, event: str, values: Mapping[str, object], source: Event) -> Line:
    ids = source.correlation
    moment = datetime.fromtimestamp(ANCHOR.to_wall_ns(source.time_ns) / 1e9, UTC)
    known = {
        **values,
        "request_id": ids.request_id,
        "session_id": ids.session_id,
        "trace_id": ids.trace_id,
        "span_id": ids.span_id,
        "occurred_at": moment.isoformat(timespec="microseconds"),
    }
    return Line(
        level,
        one_line(event),
        {_key(name): _plain(value) for name, value in known.items() if value is not None},
    )


def _key(name: str) -> str:
    """A key that means nothing to structlog itself."""
    key = one_line(name)
    return f"{key}_" if key in _RESERVED else key


def _plain(value: object) -> object:
    """Numbers that JSON has as they are; all else as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, bool | int) else one_line(value)


def one_line(value: object) -> str:
    """Text in which nothing ends the line or moves a terminal's cursor; long text is cut."""
    text = safe_str(value)
    left_out = len(text) - MAX_CHARS
    if left_out > 0:
        text = f"{text[:MAX_CHARS]}...(+{left_out})"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
