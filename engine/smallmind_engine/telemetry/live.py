"""Live figures: what an engine does right now, from the events of the last moments."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from smallmind_engine.telemetry.clock import ANCHOR
from smallmind_engine.telemetry.events import (
    Degraded,
    Event,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    KVCacheUsage,
    LogLevel,
    MemoryHighWater,
    ModelLoadEnded,
    ModelLoadStarted,
    PrefillEnded,
    RequestAdmitted,
    RequestQueued,
    RequestRejected,
    RuntimeLogEvent,
    TokenGenerated,
)
from smallmind_engine.telemetry.metrics import decode_rate
from smallmind_engine.telemetry.reasons import RequestStatus
from smallmind_engine.telemetry.snapshots import SNAPSHOT_SCHEMA, Snapshot

WINDOW_S: Final = 10
HISTORY_S: Final = 60
SAMPLES: Final = 1024
RECENT: Final = 8
TROUBLES: Final = 5


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Median and tail of a set of durations; None where there is none."""

    p50_s: float | None = None
    p95_s: float | None = None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Quantiles:
        """Of these durations; each quantile is one of them."""
        ordered = sorted(seconds)
        if not ordered:
            return cls()
        last = len(ordered) - 1
        return cls(ordered[round(0.5 * last)], ordered[round(0.95 * last)])


@dataclass(frozen=True, slots=True)
class RunningRequest:
    """A request that has not ended.

    Attributes:
        phase: ``queue``, ``prepare``, ``prefill`` or ``decode``.
        tokens: generated so far.
        age_s: since it was queued.
    """

    request_id: str
    model: str
    phase: str
    tokens: int
    age_s: float


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """A request that has ended; ``rate`` is in tokens per second after the first."""

    request_id: str
    status: str
    reason: str
    prompt_tokens: int
    completion_tokens: int
    time_to_first_token_s: float | None
    duration_s: float
    rate: float | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went less well than asked for; ``wall_ns`` since the Unix epoch."""

    wall_ns: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFigures:
    """What is known of an engine at one moment; a source that cannot tell leaves a default.

    Attributes:
        models: names, with what is known of them.
        waiting: requests in the queue.
        running: requests being worked on.
        ended: requests that ended, by status.
        tokens_per_second: generated over the last ten seconds, all requests together.
        history: the same by second, oldest first, for the last minute.
        generated_tokens: since the beginning.
        prompt_tokens: likewise.
        first_token: time to it.
        inter_token: engine time between tokens.
        whole: duration of requests.
        kv_used_tokens: in the KV caches.
        kv_capacity_tokens: they have room for.
        kv_used_bytes: in the KV caches.
        memory: most bytes by category.
        requests: that have not ended, oldest first.
        recent: that ended last, newest first.
        troubles: the last ones, newest first.
        lost_events: that exporters dropped or could not deliver.
    """

    models: tuple[str, ...] = ()
    waiting: int = 0
    running: int = 0
    ended: tuple[tuple[str, int], ...] = ()
    tokens_per_second: float | None = None
    history: tuple[float, ...] = ()
    generated_tokens: int = 0
    prompt_tokens: int = 0
    first_token: Quantiles = Quantiles()
    inter_token: Quantiles = Quantiles()
    whole: Quantiles = Quantiles()
    kv_used_tokens: int | None = None
    kv_capacity_tokens: int | None = None
    kv_used_bytes: int | None = None
    memory: tuple[tuple[str, int], ...] = ()
    requests: tuple[RunningRequest, ...] = ()
    recent: tuple[EndedRequest, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    lost_events: int = 0


@dataclass(slots=True)
class _Live:
    """A request under way."""

    model: str
    begun_ns: int
    phase: str
    tokens: int = 0


@dataclass(slots=True)
class _State:
    """All that is remembered, in bounded space but for the requests under way."""

    models: dict[str, str] = field(default_factory=dict)
    live: dict[str, _Live] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)
    by_second: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=HISTORY_S + 1))
    generated: int = 0
    prompts: int = 0
    first_token: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    inter_token: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    whole: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    kv: KVCacheUsage | None = None
    memory: dict[str, int] = field(default_factory=dict)
    recent: deque[EndedRequest] = field(default_factory=lambda: deque(maxlen=RECENT))
    troubles: deque[Trouble] = field(default_factory=lambda: deque(maxlen=TROUBLES))
    begun_ns: int | None = None


class LiveTracker:
    """Follows the events of an engine, in any number of threads."""

    def __init__(self) -> None:
        self.begin_in_child()

    def begin_in_child(self) -> None:
        """Forget everything, as in a forked child."""
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()
        self._state = _State()

    def take(self, event: Event) -> None:
        """Take one event in."""
        follow = _FOLLOWED.get(type(event))
        if follow is not None:
            with self._lock:
                if self._state.begun_ns is None:
                    self._state.begun_ns = event.time_ns
                follow(self._state, event)

    def restore(self, snapshot: Snapshot) -> None:
        """Begin with the counts of a log's snapshot."""
        if snapshot.schema != SNAPSHOT_SCHEMA:
            return
        with self._lock:
            for family, values, numbers in snapshot.series:
                if family == "requests_total" and numbers[0]:
                    self._state.ended[values[2]] += int(numbers[0])
                elif family == "generated_tokens_total":
                    self._state.generated += int(numbers[0])
                elif family == "prompt_tokens_total":
                    self._state.prompts += int(numbers[0])
                elif family == "model_info":
                    self._state.models[values[0]] = _facts(values[1:4])

    def figures(self, now_ns: int) -> LiveFigures:
        """Everything as it is at ``now_ns``, on the events' clock."""
        with self._lock:
            state = replace(
                self._state,
                **{
                    name: getattr(self._state, name).copy()
                    for name in ("models", "live", "ended", "by_second", "memory")
                },
                **{
                    name: getattr(self._state, name).copy()
                    for name in ("first_token", "inter_token", "whole", "recent", "troubles")
                },
            )
        phases = Counter(request.phase for request in state.live.values())
        history = _history(state, now_ns)
        kv = state.kv
        return LiveFigures(
            models=tuple(f"{name} {facts}".strip() for name, facts in state.models.items()),
            waiting=phases["queue"],
            running=phases.total() - phases["queue"],
            ended=tuple((s.value, state.ended[s.value]) for s in RequestStatus),
            tokens_per_second=_rate(history),
            history=history,
            generated_tokens=state.generated,
            prompt_tokens=state.prompts,
            first_token=Quantiles.of(state.first_token),
            inter_token=Quantiles.of(state.inter_token),
            whole=Quantiles.of(state.whole),
            kv_used_tokens=None if kv is None else kv.used_tokens,
            kv_capacity_tokens=None if kv is None else kv.capacity_tokens,
            kv_used_bytes=None if kv is None else kv.used_bytes,
            memory=tuple(state.memory.items()),
            requests=tuple(
                RunningRequest(
                    key, live.model, live.phase, live.tokens, (now_ns - live.begun_ns) / 1e9
                )
                for key, live in state.live.items()
            ),
            recent=tuple(reversed(state.recent)),
            troubles=tuple(reversed(state.troubles)),
        )


def _history(state: _State, now_ns: int) -> tuple[float, ...]:
    """Tokens in each whole second before the current one, since the first event."""
    if state.begun_ns is None:
        return ()
    second = now_ns // 1_000_000_000
    first = max(second - HISTORY_S, state.begun_ns // 1_000_000_000)
    counts = dict(state.by_second)
    return tuple(float(counts.get(each, 0)) for each in range(first, second))


def _rate(history: tuple[float, ...]) -> float | None:
    window = history[-WINDOW_S:]
    return sum(window) / len(window) if window else None


def _facts(parts: Iterable[str]) -> str:
    known = ", ".join(part for part in parts if part)
    return f"({known})" if known else ""


def _phase(name: str) -> Callable[[_State, Any], None]:
    def enter(state: _State, event: Any) -> None:
        _live(state, event).phase = name

    return enter


def _live(state: _State, event: Any) -> _Live:
    """The request of an event; one whose beginning was lost begins here."""
    request_id = event.correlation.request_id
    live = state.live.get(request_id)
    if live is None:
        live = state.live[request_id] = _Live(event.model, event.time_ns, "queue")
    return live


def _token(state: _State, event: TokenGenerated) -> None:
    _live(state, event).tokens += 1
    state.generated += 1
    if event.index:
        state.inter_token.append(event.engine_s)
    second = event.time_ns // 1_000_000_000
    by_second = state.by_second
    if by_second and by_second[-1][0] >= second:
        # Threads overtake each other by less than a second; the newest bucket will do.
        by_second[-1] = (by_second[-1][0], by_second[-1][1] + 1)
    else:
        by_second.append((second, 1))


def _stopped(state: _State, event: InferenceStopped) -> None:
    state.live.pop(event.correlation.request_id, None)
    state.ended[event.status.value] += 1
    state.whole.append(event.duration_s)
    state.recent.append(
        EndedRequest(
            event.correlation.request_id,
            event.status.value,
            event.reason.value,
            event.prompt_tokens,
            event.completion_tokens,
            event.time_to_first_token_s,
            event.duration_s,
            decode_rate(event),
        )
    )
    if event.status is RequestStatus.FAILED:
        _trouble(state, event, f"request failed: {event.error_type} ({event.reason})")


def _prefilled(state: _State, event: PrefillEnded) -> None:
    state.prompts += event.computed_tokens + event.cached_tokens
    _live(state, event).phase = "decode"


def _loading(state: _State, event: ModelLoadStarted) -> None:
    state.models.setdefault(event.model, "(loading)")


def _loaded(state: _State, event: ModelLoadEnded) -> None:
    if event.status is RequestStatus.COMPLETED:
        state.models[event.model] = _facts((event.architecture, event.quantization, event.backend))
        return
    state.models.pop(event.model, None)
    _trouble(state, event, f"loading {event.model} failed ({event.reason})")


def _usage(state: _State, event: KVCacheUsage) -> None:
    state.kv = event


def _high_water(state: _State, event: MemoryHighWater) -> None:
    most = max(event.high_water_bytes, state.memory.get(event.category, 0))
    state.memory[event.category] = most


def _logged(state: _State, event: RuntimeLogEvent) -> None:
    if event.level >= LogLevel.WARN and event.message != "request stopped":
        _trouble(state, event, f"{event.component}: {event.message}")


def _trouble(state: _State, event: Event, text: str) -> None:
    state.troubles.append(Trouble(ANCHOR.to_wall_ns(event.time_ns), text))


_FOLLOWED: Final[dict[type[Event], Callable[[_State, Any], None]]] = {
    ModelLoadStarted: _loading,
    ModelLoadEnded: _loaded,
    RequestQueued: _phase("queue"),
    RequestAdmitted: _phase("prepare"),
    InferenceStarted: _phase("prefill"),
    PrefillEnded: _prefilled,
    FirstToken: lambda state, event: state.first_token.append(event.time_to_first_token_s),
    TokenGenerated: _token,
    InferenceStopped: _stopped,
    RequestRejected: lambda state, event: _trouble(
        state, event, f"request turned away ({event.reason})"
    ),
    KVCacheUsage: _usage,
    MemoryHighWater: _high_water,
    Degraded: lambda state, event: _trouble(
        state, event, f"{event.component}: {event.message} ({event.reason})"
    ),
    RuntimeLogEvent: _logged,
}

LIVE_KINDS: Final = sum(event_type.kind for event_type in _FOLLOWED)
"""The kinds that a ``LiveTracker`` follows."""
