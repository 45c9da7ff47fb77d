"""Metrics kept in memory, exact under many threads, in bounded space."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smallmind_engine.telemetry.distribution import Distribution, DurationSamples
from smallmind_engine.telemetry.fork import renew_in_child
from smallmind_engine.telemetry.reasons import RequestStatus, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSnapshot:
    """All metrics at one moment.

    Attributes:
        model_loads_started: loads begun.
        model_loads: loads that ended, by status; every status is there.
        model_load_duration: of the loads that ended.
        inferences_started: requests that the model began to work on.
        inferences: requests that ended, by status; every status is there.
        stop_reasons: requests that ended, by reason; every reason is there.
        request_duration: from submission to end, of all that ended.
        time_to_first_token: of all requests that had a token.
        inter_token_interval: engine time between tokens.
        tokens_generated: counted one by one, so those of running requests are in it.
        prompt_tokens: of the requests that ended.
        completion_tokens: of the requests that ended.
        average_tokens_per_second: mean of the requests' decode rates; 0.0 without one.
        kv_cache_bytes: as last told.
        kv_cache_hits: prompts found in a cache.
        kv_cache_misses: prompts not found.
        memory_high_water_bytes: the largest told.
        invalid_values: durations, rates, counts that were negative or not finite; left out.
    """

    model_loads_started: int
    model_loads: dict[RequestStatus, int]
    model_load_duration: Distribution
    inferences_started: int
    inferences: dict[RequestStatus, int]
    stop_reasons: dict[StopReason, int]
    request_duration: Distribution
    time_to_first_token: Distribution
    inter_token_interval: Distribution
    tokens_generated: int
    prompt_tokens: int
    completion_tokens: int
    average_tokens_per_second: float
    kv_cache_bytes: int
    kv_cache_hits: int
    kv_cache_misses: int
    memory_high_water_bytes: int
    invalid_values: int

    @property
    def average_time_to_first_token_s(self) -> float:
        """Mean of ``time_to_first_token``."""
        return self.time_to_first_token.mean_s

    @property
    def kv_cache_hit_rate(self) -> float:
        """Hits among the look-ups, from 0 to 1; 0.0 without one."""
        lookups = self.kv_cache_hits + self.kv_cache_misses
        return self.kv_cache_hits / lookups if lookups else 0.0


_RATE_UNITS = 1_000_000  # rates are added up in whole millionths, so that order does not matter


class _Tally:
    """The numbers themselves; replaced whole by a reset."""

    __slots__ = (
        "completion_tokens",
        "inferences",
        "inferences_started",
        "inter_token_interval",
        "invalid_values",
        "kv_cache_bytes",
        "kv_cache_hits",
        "kv_cache_misses",
        "memory_high_water_bytes",
        "model_load_duration",
        "model_loads",
        "model_loads_started",
        "prompt_tokens",
        "rate_count",
        "rate_sum",
        "request_duration",
        "stop_reasons",
        "time_to_first_token",
        "tokens_generated",
    )

    def __init__(self) -> None:
        self.model_loads_started = 0
        self.model_loads = dict.fromkeys(RequestStatus, 0)
        self.model_load_duration = DurationSamples()
        self.inferences_started = 0
        self.inferences = dict.fromkeys(RequestStatus, 0)
        self.stop_reasons = dict.fromkeys(StopReason, 0)
        self.request_duration = DurationSamples()
        self.time_to_first_token = DurationSamples()
        self.inter_token_interval = DurationSamples()
        self.tokens_generated = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.rate_count = 0
        self.rate_sum = 0
        self.kv_cache_bytes = 0
        self.kv_cache_hits = 0
        self.kv_cache_misses = 0
        self.memory_high_water_bytes = 0
        self.invalid_values = 0

    def add_duration(self, samples: DurationSamples, seconds: float) -> None:
        """Add a valid duration; count an invalid one."""
        if 0.0 <= seconds < math.inf:
            samples.add(seconds)
        else:
            self.invalid_values += 1

    def copy(self) -> _Tally:
        """The same, independent of later changes."""
        twin = _Tally()
        for name in self.__slots__:
            value = getattr(self, name)
            setattr(twin, name, value.copy() if hasattr(value, "copy") else value)
        return twin

    def snapshot(self) -> MetricsSnapshot:
        """The numbers as the frozen record of the public interface."""
        rate_sum = self.rate_sum / _RATE_UNITS
        return MetricsSnapshot(
            model_loads_started=self.model_loads_started,
            model_loads=self.model_loads,
            model_load_duration=self.model_load_duration.summary(),
            inferences_started=self.inferences_started,
            inferences=self.inferences,
            stop_reasons=self.stop_reasons,
            request_duration=self.request_duration.summary(),
            time_to_first_token=self.time_to_first_token.summary(),
            inter_token_interval=self.inter_token_interval.summary(),
            tokens_generated=self.tokens_generated,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            average_tokens_per_second=rate_sum / self.rate_count if self.rate_count else 0.0,
            kv_cache_bytes=self.kv_cache_bytes,
            kv_cache_hits=self.kv_cache_hits,
            kv_cache_misses=self.kv_cache_misses,
            memory_high_water_bytes=self.memory_high_water_bytes,
            invalid_values=self.invalid_values,
        )


class InMemoryRuntimeMetrics:
    """Counts, averages and percentiles in memory; ``snapshot()`` reads them all at one moment.

    Thread-safe.

    No update is lost and no snapshot is torn, whatever the number of threads. A forked child
    counts from zero: what was counted belongs to the parent.
    """

    def __init__(self) -> None:
        self._feeders: tuple[Callable[[], None], ...] = ()
        self.begin_in_child()
        renew_in_child(self)

    def add_feeder(self, settle: Callable[[], None]) -> None:
        """Call ``settle`` before each reading: it brings what its owner still holds back."""
        self._feeders = (*self._feeders, settle)

    def remove_feeder(self, settle: Callable[[], None]) -> None:
        """Call it no more."""
        self._feeders = tuple(feeder for feeder in self._feeders if feeder != settle)

    def _settle(self) -> None:
        for settle in self._feeders:
            settle()

    def begin_in_child(self) -> None:
        """Begin at zero with a free lock, as in a forked child."""
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()
        self._tally = _Tally()

    def snapshot(self) -> MetricsSnapshot:
        """Everything as it is now; percentiles are worked out after the lock is free again."""
        self._settle()
        with self._lock:
            tally = self._tally.copy()
        return tally.snapshot()

    def reset(self) -> MetricsSnapshot:
        """Begin at zero, and answer what there was; no update falls between the two."""
        self._settle()
        with self._lock:
            last, self._tally = self._tally, _Tally()
        return last.snapshot()

    def model_load_started(self) -> None:
        """Count it."""
        with self._lock:
            self._tally.model_loads_started += 1

    def model_load_ended(self, status: RequestStatus, duration_s: float) -> None:
        """Count it by status, and keep its duration."""
        with self._lock:
            self._tally.model_loads[status] += 1
            self._tally.add_duration(self._tally.model_load_duration, duration_s)

    def inference_started(self) -> None:
        """Count it."""
        with self._lock:
            self._tally.inferences_started += 1

    def first_token(self, time_to_first_token_s: float) -> None:
        """Keep its time."""
        with self._lock:
            self._tally.add_duration(self._tally.time_to_first_token, time_to_first_token_s)

    def token_generated(self, interval_s: float | None) -> None:
        """Count it, and keep the interval before it."""
        self.tokens_generated((interval_s,))

    def tokens_generated(self, intervals_s: Sequence[float | None]) -> None:
        """Count several, and keep the interval before each."""
        count = len(intervals_s)
        known = [interval_s for interval_s in intervals_s if interval_s is not None]
        valid = [interval_s for interval_s in known if 0.0 <= interval_s < math.inf]
        invalid = len(known) - len(valid)
        with self._lock:
            self._tally.tokens_generated += count
            self._tally.invalid_values += invalid
            self._tally.inter_token_interval.add_all(valid)

    def inference_stopped(
        self, status: RequestStatus, reason: StopReason, duration_s: float
    ) -> None:
        """Count it by status and by reason, and keep its duration."""
        with self._lock:
            self._tally.inferences[status] += 1
            self._tally.stop_reasons[reason] += 1
            self._tally.add_duration(self._tally.request_duration, duration_s)

    def prompt_tokens(self, count: int) -> None:
        """Add them up."""
        with self._lock:
            self._tally.prompt_tokens += count

    def completion_tokens(self, count: int) -> None:
        """Add them up."""
        with self._lock:
            self._tally.completion_tokens += count

    def tokens_per_second(self, rate: float) -> None:
        """Keep it for the average."""
        with self._lock:
            if 0.0 <= rate < math.inf:
                units = round(rate * _RATE_UNITS)
                self._tally.rate_count += 1
                self._tally.rate_sum += units
            else:
                self._tally.invalid_values += 1

    def kv_cache_size(self, used_bytes: int) -> None:
        """Keep the last one."""
        with self._lock:
            self._tally.kv_cache_bytes = used_bytes

    def kv_cache_hit(self) -> None:
        """Count it."""
        with self._lock:
            self._tally.kv_cache_hits += 1

    def kv_cache_miss(self) -> None:
        """Count it."""
        with self._lock:
            self._tally.kv_cache_misses += 1

    def memory_high_water(self, high_water_bytes: int) -> None:
        """Keep the largest."""
        with self._lock:
            tally = self._tally
            if high_water_bytes > tally.memory_high_water_bytes:  # noqa: PLR1730 - no call here
                tally.memory_high_water_bytes = high_water_bytes
