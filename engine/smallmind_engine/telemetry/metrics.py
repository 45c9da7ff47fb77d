"""Metrics of the runtime: the interface users plug in, the one that does nothing, and the feed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from smallmind_engine.telemetry.events import (
    Event,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    KVCacheLookup,
    KVCacheUsage,
    MemoryHighWater,
    ModelLoadEnded,
    ModelLoadStarted,
    TokenGenerated,
)
from smallmind_engine.telemetry.exporter import FlushResult, taken_from
from smallmind_engine.telemetry.fork import renew_in_child
from smallmind_engine.telemetry.in_memory_metrics import InMemoryRuntimeMetrics
from smallmind_engine.telemetry.phases import Phase
from smallmind_engine.telemetry.reasons import RequestStatus, StopReason


class RuntimeMetrics(Protocol):
    """Is told what happens. Times are seconds as float. Called from several threads."""

    def model_load_started(self) -> None:
        """A model begins to load."""
        ...

    def model_load_ended(self, status: RequestStatus, duration_s: float) -> None:
        """Loading succeeded or failed."""
        ...

    def inference_started(self) -> None:
        """The model begins to work on a request."""
        ...

    def first_token(self, time_to_first_token_s: float) -> None:
        """The first token is known; the time counts from the submission of the request."""
        ...

    def token_generated(self, interval_s: float | None) -> None:
        """A token is known.

        Args:
            interval_s: since the previous token, without what the reader of a stream took; None
                for a request's first token.
        """
        ...

    def inference_stopped(
        self, status: RequestStatus, reason: StopReason, duration_s: float
    ) -> None:
        """A request ended, in whatever way; the time counts from its submission."""
        ...

    def prompt_tokens(self, count: int) -> None:
        """A request that ended had this many prompt tokens."""
        ...

    def completion_tokens(self, count: int) -> None:
        """A request that ended had this many completion tokens."""
        ...

    def tokens_per_second(self, rate: float) -> None:
        """A request decoded at this rate: tokens after the first over the engine's time."""
        ...

    def kv_cache_size(self, used_bytes: int) -> None:
        """The KV caches now hold this much."""
        ...

    def kv_cache_hit(self) -> None:
        """A prompt was found in a cache, at least in part."""
        ...

    def kv_cache_miss(self) -> None:
        """A prompt was not found in a cache."""
        ...

    def memory_high_water(self, high_water_bytes: int) -> None:
        """A category of memory reached a new maximum."""
        ...


class NullRuntimeMetrics:
    """Is told everything and keeps nothing."""

    __slots__ = ()

    def model_load_started(self) -> None:
        """Keep nothing."""

    def model_load_ended(self, status: RequestStatus, duration_s: float) -> None:
        """Keep nothing."""

    def inference_started(self) -> None:
        """Keep nothing."""

    def first_token(self, time_to_first_token_s: float) -> None:
        """Keep nothing."""

    def token_generated(self, interval_s: float | None) -> None:
        """Keep nothing."""

    def inference_stopped(
        self, status: RequestStatus, reason: StopReason, duration_s: float
    ) -> None:
        """Keep nothing."""

    def prompt_tokens(self, count: int) -> None:
        """Keep nothing."""

    def completion_tokens(self, count: int) -> None:
        """Keep nothing."""

    def tokens_per_second(self, rate: float) -> None:
        """Keep nothing."""

    def kv_cache_size(self, used_bytes: int) -> None:
        """Keep nothing."""

    def kv_cache_hit(self) -> None:
        """Keep nothing."""

    def kv_cache_miss(self) -> None:
        """Keep nothing."""

    def memory_high_water(self, high_water_bytes: int) -> None:
        """Keep nothing."""


class MetricsExporter:
    """Feeds a ``RuntimeMetrics`` from the bus: ``load(..., metrics=InMemoryRuntimeMetrics())``.

    Thread-safe, as the metrics that it feeds must be.

    Args:
        metrics: is told; must not wait for anything, as it is called in the engine's threads.
        name: of the exporter.
    """

    def __init__(self, metrics: RuntimeMetrics, *, name: str = "metrics") -> None:
        self._metrics = metrics
        self._in_memory = metrics if isinstance(metrics, InMemoryRuntimeMetrics) else None
        # Who overrides the method is told of each token.
        plain = type(metrics).token_generated is InMemoryRuntimeMetrics.token_generated
        self._at_once = self._in_memory if plain else None
        self._closed = False
        self.name = name
        self.inline = True
        self.interests = METRIC_KINDS
        self.backlog: deque[Event] | None = None
        self._new_lock()
        if self._in_memory is not None:
            self.backlog = deque()
            self._in_memory.add_feeder(self._settle)
            renew_in_child(self)

    def _new_lock(self) -> None:
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()

    def begin_in_child(self) -> None:
        """Forget what waits, as in a forked child: it belongs to the parent."""
        self._new_lock()
        if self.backlog is not None:
            self.backlog.clear()

    def export(self, event: Event, /) -> None:
        """Tell the metrics what the event says."""
        if self.backlog:
            self._settle()
        self._feed(event)

    def _feed(self, event: Event) -> None:
        feed = _FEEDS.get(type(event))
        if feed is not None and not self._closed:
            feed(event, self._metrics)

    def _settle(self) -> None:
        at_once = self._at_once
        with self._lock:  # or who reads would miss those that another thread has just taken
            intervals_s: list[float | None] = []
            try:
                for event in taken_from(self.backlog or deque()):
                    if at_once is not None and isinstance(event, TokenGenerated):
                        intervals_s.append(_interval_s(event))
                    else:
                        self._feed(event)
            finally:
                if at_once is not None and intervals_s and not self._closed:
                    at_once.tokens_generated(intervals_s)

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """What waits for others is told."""
        self._settle()
        return FlushResult()

    def close(self) -> None:
        """Tell nothing more; the metrics stay the caller's."""
        self._settle()
        self._closed = True
        if self._in_memory is not None:
            self._in_memory.remove_feeder(self._settle)


def decode_rate(event: InferenceStopped) -> float | None:
    """Tokens per second after the first token, without the time the stream's reader took.

    None when fewer than two tokens were generated.
    """
    after_first = event.completion_tokens - 1
    if after_first < 1 or event.time_to_first_token_s is None:
        return None
    consumer_s = dict(event.ledger).get(Phase.CONSUMER, 0.0)
    seconds = event.duration_s - event.time_to_first_token_s - consumer_s
    return after_first / seconds if seconds > 0.0 else None


def _interval_s(event: TokenGenerated) -> float | None:
    """Engine time since the previous token; the first one has no previous."""
    return event.engine_s if event.index else None


def _stopped(event: InferenceStopped, metrics: RuntimeMetrics) -> None:
    metrics.inference_stopped(event.status, event.reason, event.duration_s)
    metrics.prompt_tokens(event.prompt_tokens)
    metrics.completion_tokens(event.completion_tokens)
    rate = decode_rate(event)
    if rate is not None:
        metrics.tokens_per_second(rate)


def _looked_up(event: KVCacheLookup, metrics: RuntimeMetrics) -> None:
    if event.hit:
        metrics.kv_cache_hit()
    else:
        metrics.kv_cache_miss()


_FEEDS: Final[dict[type[Event], Callable[..., None]]] = {
    ModelLoadStarted: lambda event, metrics: metrics.model_load_started(),  # noqa: ARG005 - a table
    ModelLoadEnded: lambda event, metrics: metrics.model_load_ended(event.status, event.duration_s),
    InferenceStarted: lambda event, metrics: metrics.inference_started(),  # noqa: ARG005 - a table
    FirstToken: lambda event, metrics: metrics.first_token(event.time_to_first_token_s),
    TokenGenerated: lambda event, metrics: metrics.token_generated(_interval_s(event)),
    InferenceStopped: _stopped,
    KVCacheLookup: _looked_up,
    KVCacheUsage: lambda event, metrics: metrics.kv_cache_size(event.used_bytes),
    MemoryHighWater: lambda event, metrics: metrics.memory_high_water(event.high_water_bytes),
}

METRIC_KINDS: Final = sum(event_type.kind for event_type in _FEEDS)
