"""Metrics kept in memory equal what happened, and take bounded space."""

from __future__ import annotations

import math
import pickle
import random
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from smallmind_engine.telemetry import (
    Distribution,
    EventBus,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    InMemoryRuntimeMetrics,
    KVCacheLookup,
    KVCacheUsage,
    MemoryHighWater,
    MetricsExporter,
    MetricsSnapshot,
    ModelLoadEnded,
    ModelLoadStarted,
    NullRuntimeMetrics,
    RequestStatus,
    StopReason,
    TokenGenerated,
)
from smallmind_engine.telemetry.distribution import EXACT_SAMPLES, RELATIVE_ERROR, DurationSamples
from smallmind_engine.telemetry.metrics import METRIC_KINDS, decode_rate
from telemetry_doubles import IDS
from telemetry_samples import EVENT_TYPES, sample


def tell_everything(metrics):
    """Call each method of the protocol once or more."""
    metrics.model_load_started()
    metrics.model_load_ended(RequestStatus.COMPLETED, 1.5)
    metrics.inference_started()
    metrics.first_token(0.0004)
    metrics.token_generated(None)
    metrics.token_generated(0.0001)
    metrics.inference_stopped(RequestStatus.CANCELLED, StopReason.CANCELLED_BY_TIMEOUT, 0.25)
    metrics.prompt_tokens(7)
    metrics.completion_tokens(2)
    metrics.tokens_per_second(12.5)
    metrics.kv_cache_size(4096)
    for _ in range(3):
        metrics.kv_cache_hit()
    metrics.kv_cache_miss()
    metrics.memory_high_water(100)
    metrics.memory_high_water(50)


def test_everything_that_is_told_is_in_the_snapshot():
    metrics = InMemoryRuntimeMetrics()
    tell_everything(metrics)
    seen = metrics.snapshot()
    assert (seen.model_loads_started, seen.inferences_started) == (1, 1)
    assert seen.model_loads == {**dict.fromkeys(RequestStatus, 0), RequestStatus.COMPLETED: 1}
    assert seen.inferences == {**dict.fromkeys(RequestStatus, 0), RequestStatus.CANCELLED: 1}
    assert seen.stop_reasons == {**dict.fromkeys(StopReason, 0), StopReason.CANCELLED_BY_TIMEOUT: 1}
    assert seen.model_load_duration == Distribution(1, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5)
    assert seen.request_duration.max_s == 0.25
    assert (seen.tokens_generated, seen.prompt_tokens, seen.completion_tokens) == (2, 7, 2)
    assert seen.average_tokens_per_second == 12.5
    assert (seen.kv_cache_bytes, seen.kv_cache_hits, seen.kv_cache_misses) == (4096, 3, 1)
    assert (seen.kv_cache_hit_rate, seen.memory_high_water_bytes) == (0.75, 100)
    assert seen.invalid_values == 0


def test_times_below_a_millisecond_are_kept():
    metrics = InMemoryRuntimeMetrics()
    tell_everything(metrics)
    seen = metrics.snapshot()
    assert (seen.average_time_to_first_token_s, seen.inter_token_interval.mean_s) == (
        0.0004,
        0.0001,
    )


def test_an_empty_snapshot_is_all_zero():
    seen = InMemoryRuntimeMetrics().snapshot()
    assert (seen.average_tokens_per_second, seen.kv_cache_hit_rate) == (0.0, 0.0)
    assert Distribution() == seen.time_to_first_token
    assert set(seen.stop_reasons) == set(StopReason)


def test_a_snapshot_is_frozen_picklable_and_does_not_change_later():
    metrics = InMemoryRuntimeMetrics()
    tell_everything(metrics)
    seen = metrics.snapshot()
    twin = pickle.loads(pickle.dumps(seen))  # noqa: S301 - our own bytes
    tell_everything(metrics)
    assert seen == twin
    with pytest.raises(FrozenInstanceError):
        seen.prompt_tokens = 1


def test_reset_answers_what_there_was_and_begins_at_zero():
    metrics = InMemoryRuntimeMetrics()
    tell_everything(metrics)
    before = metrics.snapshot()
    assert before == metrics.reset()
    assert InMemoryRuntimeMetrics().snapshot() == metrics.snapshot()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.001])
def test_an_impossible_value_is_counted_and_poisons_nothing(value):
    metrics = InMemoryRuntimeMetrics()
    metrics.first_token(0.5)
    metrics.first_token(value)
    metrics.token_generated(value)
    metrics.tokens_per_second(value)
    metrics.inference_stopped(RequestStatus.FAILED, StopReason.ERROR, value)
    seen = metrics.snapshot()
    assert (seen.invalid_values, seen.average_time_to_first_token_s) == (4, 0.5)
    assert (seen.tokens_generated, seen.inferences[RequestStatus.FAILED]) == (1, 1)


def test_the_null_metrics_take_everything_and_keep_nothing():
    null = NullRuntimeMetrics()
    tell_everything(null)
    assert not hasattr(null, "__dict__")


def test_percentiles_are_those_of_numpy_while_exact():
    draws = random.Random(1)  # noqa: S311 - reproducible draws
    values = [draws.lognormvariate(-3, 2) for _ in range(EXACT_SAMPLES)]
    samples = DurationSamples()
    for value in values:
        samples.add(value)
    seen = samples.summary()
    assert seen.exact
    expected = np.percentile(values, [50, 95, 99])
    assert np.allclose([seen.p50_s, seen.p95_s, seen.p99_s], expected, rtol=1e-12)
    assert (seen.count, seen.min_s, seen.max_s) == (EXACT_SAMPLES, min(values), max(values))
    assert seen.mean_s == pytest.approx(math.fsum(values) / len(values), abs=1e-9)


@pytest.mark.parametrize("spread", [0.01, 1, 4])
def test_percentiles_are_within_one_percent_when_there_are_more(spread):
    draws = random.Random(2)  # noqa: S311 - reproducible draws
    values = [draws.lognormvariate(-3, spread) for _ in range(EXACT_SAMPLES * 3)]
    samples = DurationSamples()
    for value in values:
        samples.add(value)
    seen = samples.summary()
    assert not seen.exact
    expected = np.percentile(values, [50, 95, 99], method="lower")
    assert np.allclose([seen.p50_s, seen.p95_s, seen.p99_s], expected, rtol=RELATIVE_ERROR * 1.001)
    assert (seen.count, seen.min_s, seen.max_s) == (len(values), min(values), max(values))
    assert seen.mean_s == pytest.approx(math.fsum(values) / len(values), abs=1e-9)


def test_values_at_the_ends_of_the_range_are_kept_within_what_was_seen():
    samples = DurationSamples()
    for _ in range(EXACT_SAMPLES):
        samples.add(0.0)
    samples.add(1e12)
    seen = samples.summary()
    assert (seen.p50_s, seen.p99_s, seen.max_s) == (
        pytest.approx(0.0, abs=1e-9),
        pytest.approx(0.0, abs=1e-9),
        1e12,
    )


@pytest.mark.parametrize("at_once", [1, 7, 100, EXACT_SAMPLES + 5])
def test_several_at_once_are_the_same_as_one_after_the_other(at_once):
    draws = random.Random(3)  # noqa: S311 - reproducible draws
    values = [draws.lognormvariate(-3, 2) for _ in range(EXACT_SAMPLES + 50)]
    single, several = DurationSamples(), DurationSamples()
    several.add_all([])
    for begin in range(0, len(values), at_once):
        part = values[begin : begin + at_once]
        several.add_all(part)
        for value in part:
            single.add(value)
        if begin % (100 * at_once) == 0 or single._values is None:
            assert several.summary() == single.summary()
    assert not several.summary().exact


def test_space_is_bounded():
    samples = DurationSamples()
    for number in range(EXACT_SAMPLES * 2):
        samples.add(number / 1000)
    assert samples._values is None
    assert len(samples._buckets) * samples._buckets.itemsize < 20_000


def stopped(**fields):
    base = sample(InferenceStopped)._replace(
        completion_tokens=11, duration_s=3.0, time_to_first_token_s=0.5, ledger=(("consumer", 0.5),)
    )
    return base._replace(**fields)


def test_the_decode_rate_leaves_out_the_first_token_and_the_readers_time():
    assert decode_rate(stopped()) == pytest.approx(10 / 2.0)


@pytest.mark.parametrize(
    "fields", [{"completion_tokens": 1}, {"time_to_first_token_s": None}, {"duration_s": 0.5}]
)
def test_there_is_no_decode_rate_without_a_second_token_or_time(fields):
    assert decode_rate(stopped(**fields)) is None


def test_the_exporter_feeds_the_metrics_with_what_happened():
    bus, metrics = EventBus(), InMemoryRuntimeMetrics()
    bus.subscribe(MetricsExporter(metrics))
    assert bus.wants == METRIC_KINDS
    emitter = bus.emitter(IDS)
    for event in (
        sample(ModelLoadStarted),
        sample(ModelLoadEnded)._replace(status=RequestStatus.FAILED, duration_s=2.0),
        sample(InferenceStarted),
        sample(FirstToken)._replace(time_to_first_token_s=0.5),
        sample(TokenGenerated)._replace(index=0, engine_s=0.5),
        sample(TokenGenerated)._replace(index=1, engine_s=0.02, consumer_s=9.0),
        stopped(status=RequestStatus.COMPLETED, reason=StopReason.MAX_TOKENS, prompt_tokens=4),
        stopped(completion_tokens=0, time_to_first_token_s=None, reason=StopReason.ERROR),
        sample(KVCacheLookup)._replace(hit=True),
        sample(KVCacheLookup)._replace(hit=False),
        sample(KVCacheUsage)._replace(used_bytes=77),
        sample(MemoryHighWater)._replace(high_water_bytes=88),
    ):
        emitter.publish(event)
    seen = metrics.snapshot()
    assert (seen.model_loads_started, seen.model_loads[RequestStatus.FAILED]) == (1, 1)
    assert (seen.inferences_started, sum(seen.inferences.values())) == (1, 2)
    assert (seen.stop_reasons[StopReason.MAX_TOKENS], seen.stop_reasons[StopReason.ERROR]) == (1, 1)
    assert (seen.tokens_generated, seen.inter_token_interval.count) == (2, 1)
    assert seen.inter_token_interval.max_s == 0.02
    assert (seen.time_to_first_token.count, seen.average_tokens_per_second) == (1, 5.0)
    assert (seen.prompt_tokens, seen.completion_tokens) == (4 + 3, 11)
    assert (seen.kv_cache_hit_rate, seen.kv_cache_bytes, seen.memory_high_water_bytes) == (
        0.5,
        77,
        88,
    )


def test_the_exporter_ignores_other_kinds_and_tells_nothing_when_closed():
    metrics = InMemoryRuntimeMetrics()
    exporter = MetricsExporter(metrics, name="mine")
    for event_type in EVENT_TYPES:
        if not event_type.kind & METRIC_KINDS:
            exporter.export(sample(event_type))
    exporter.close()
    exporter.close()
    exporter.export(sample(ModelLoadStarted))
    assert InMemoryRuntimeMetrics().snapshot() == metrics.snapshot()
    assert (exporter.name, exporter.inline, exporter.flush(1.0).complete) == ("mine", True, True)


def test_a_snapshot_names_its_units():
    assert isinstance(InMemoryRuntimeMetrics().snapshot(), MetricsSnapshot)
    assert all(
        name.endswith("_s") for name in Distribution.__slots__ if name not in {"count", "exact"}
    )
