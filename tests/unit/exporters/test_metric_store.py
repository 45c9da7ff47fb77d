"""The store adds events up exactly, whatever threads, names and numbers do."""

from __future__ import annotations

import threading

import pytest

from smallmind_engine.telemetry import (
    DegradeReason,
    KVCacheUsage,
    MemoryHighWater,
    RequestAdmitted,
    RequestQueued,
    RequestStatus,
    StopReason,
    TokenGenerated,
)
from smallmind_exporters.metrics import (
    FAMILIES,
    Counter,
    Family,
    Gauge,
    Histogram,
    MetricKind,
    MetricStore,
)
from smallmind_exporters.metrics.family import one
from smallmind_exporters.metrics.labels import MODEL as MODEL_LABEL
from smallmind_exporters.metrics.store import LONGEST_LABEL, OTHER, known_values, merge
from telemetry_events import (
    MODEL,
    cancelled_in_queue,
    correlation,
    headers,
    model_load,
    operations,
    rejected_request,
    request,
    troubles,
)


def store_of(*streams, **options):
    store = MetricStore(**options)
    for stream in streams:
        for event in stream:
            store.take(event)
    return store


def series(store, name, *values):
    rows = {family.name: rows for family, rows in store.snapshot().items()}[name]
    return rows[values]


def value(store, name, *values):
    return series(store, name, *values).value


def token(header, model=MODEL, engine_s=0.01, consumer_s=0.0, index=1):
    return TokenGenerated(
        *header(), model=model, index=index, engine_s=engine_s, consumer_s=consumer_s
    )


def test_a_request_is_counted_by_how_it_ended():
    store = store_of(
        request(headers()),
        request(headers("req-2"), operation="chat", reason=StopReason.ERROR),
        rejected_request(headers("req-3")),
    )
    assert value(store, "requests_total", MODEL, "text_completion", "completed", "MAX_TOKENS") == 1
    assert value(store, "requests_total", MODEL, "chat", "failed", "ERROR") == 1
    rejected = (MODEL, "chat", "rejected", "BACKPRESSURE_QUEUE_FULL")
    assert value(store, "requests_total", *rejected) == 1
    assert value(store, "rejected_total", MODEL, "BACKPRESSURE_QUEUE_FULL") == 1
    assert value(store, "backpressure_total", MODEL, "BACKPRESSURE_QUEUE_FULL", "reject") == 1


def test_times_of_a_request_are_what_its_events_say():
    store = store_of(request(headers(), tokens=5, token_s=0.03125, wait_s=0.0078125))
    assert series(store, "queue_seconds", MODEL).total == 0.0625
    assert series(store, "prefill_seconds", MODEL).total == 0.25
    assert series(store, "time_to_first_token_seconds", MODEL).total == 0.328125
    assert series(store, "decode_seconds", MODEL).total == 4 * 0.03125
    assert series(store, "inter_token_seconds", MODEL).total == 4 * 0.03125
    assert series(store, "consumer_wait_seconds", MODEL).total == 4 * 0.0078125
    assert series(store, "time_per_output_token_seconds", MODEL).total == 0.03125
    whole = 0.328125 + 4 * (0.03125 + 0.0078125)
    assert series(store, "request_duration_seconds", MODEL, "completed").total == whole
    phases = ("queue", "prefill", "decode", "consumer", "unattributed")
    booked = [value(store, "request_phase_seconds_total", MODEL, phase) for phase in phases]
    assert booked == [0.0625, 0.25, 0.125, 0.03125, 0.015625]
    assert sum(booked) == whole


def test_tokens_are_counted_by_where_they_came_from():
    store = store_of(request(headers(), prompt_tokens=12, cached_tokens=5, tokens=7))
    assert value(store, "prompt_tokens_total", MODEL, "computed") == 7
    assert value(store, "prompt_tokens_total", MODEL, "cached") == 5
    assert value(store, "generated_tokens_total", MODEL) == 7
    assert value(store, "prefix_cache_queried_tokens_total", MODEL) == 12
    assert value(store, "prefix_cache_hit_tokens_total", MODEL) == 5
    assert value(store, "kv_cache_lookups_total", MODEL, "hit") == 1
    assert value(store, "kv_cache_lookups_total", MODEL, "miss") == 0
    assert value(store, "kv_cache_used_tokens", MODEL) == 19
    assert value(store, "kv_cache_capacity_tokens", MODEL) == 2048


@pytest.mark.parametrize("reason", [StopReason.ERROR, StopReason.CANCELLED_BY_CALLER])
def test_latency_to_and_per_token_is_of_completed_requests_only(reason):
    store = store_of(request(headers(), reason=reason))
    assert sum(series(store, "time_to_first_token_seconds", MODEL).counts) == 0
    assert sum(series(store, "time_per_output_token_seconds", MODEL).counts) == 0
    assert sum(series(store, "inter_token_seconds", MODEL).counts) == 3


def test_a_request_of_one_token_has_no_time_per_token():
    store = store_of(request(headers(), tokens=1))
    assert sum(series(store, "time_to_first_token_seconds", MODEL).counts) == 1
    assert sum(series(store, "time_per_output_token_seconds", MODEL).counts) == 0
    assert sum(series(store, "decode_seconds", MODEL).counts) == 0


def test_waits_for_a_reader_are_of_streams_only():
    store = store_of(request(headers(), streaming=False))
    assert sum(series(store, "consumer_wait_seconds", MODEL).counts) == 0
    assert sum(series(store, "inter_token_seconds", MODEL).counts) == 3


def test_a_loaded_model_is_described_once_with_its_latest_facts():
    changed = [
        event._replace(backend="numba") if hasattr(event, "backend") else event
        for event in model_load(headers("load-2"))
    ]
    store = store_of(model_load(headers("load-1")), changed)
    rows = {family.name: rows for family, rows in store.snapshot().items()}["model_info"]
    assert list(rows) == [
        (MODEL, "llama", "Q4_1", "numba", "135000000", "2048", "sha256:0123456789ab")
    ]


def test_load_phases_add_up_to_the_whole_load():
    store = store_of(model_load(headers()))
    phases = {name: value(store, "model_load_seconds", MODEL, name) for name in ("read", "weights")}
    assert phases == {"read": 0.125, "weights": 0.5}
    assert value(store, "model_load_seconds", MODEL, "unattributed") == 0.125
    assert value(store, "model_loads_total", MODEL, "completed") == 1


def test_a_failed_load_is_counted_and_describes_nothing():
    store = store_of(
        model_load(headers()), model_load(headers("load-2"), status=RequestStatus.FAILED)
    )
    assert value(store, "model_loads_total", MODEL, "failed") == 1
    rows = {family.name: rows for family, rows in store.snapshot().items()}
    assert len(rows["model_info"]) == 1
    assert value(store, "model_load_seconds", MODEL, "read") == 0.125


def test_kernels_are_counted_by_where_they_came_from():
    store = store_of(model_load(headers()), model_load(headers("load-2")))
    assert value(store, "kernel_compilations_total", MODEL, "compiled") == 4
    assert value(store, "kernel_compilations_total", MODEL, "cached") == 6
    assert value(store, "kernel_preparation_seconds_total", MODEL) == 0.125


def test_operations_are_counted_by_name_and_types():
    store = store_of(operations(headers()))
    assert value(store, "kernel_seconds_total", MODEL, "qkv", "Q4_K+Q6_K") == 0.001953125
    assert value(store, "kernel_read_bytes_total", MODEL, "output", "F16") == 8_000_000
    assert value(store, "kernel_flops_total", MODEL, "output", "F16") == 32_000_000
    assert value(store, "machine_read_bytes_per_second") == 16e9
    assert value(store, "machine_flops_per_second") == 128e9
    assert value(store, "machine_byte_ops_per_second") == 512e9


def test_without_operations_there_is_no_series_of_them():
    store = store_of(model_load(headers()), request(headers()))
    rows = {family.name: rows for family, rows in store.snapshot().items()}
    names = [name for name in rows if name.startswith(("kernel_", "machine_")) and rows[name]]
    assert names == ["kernel_compilations_total", "kernel_preparation_seconds_total"]


def test_troubles_are_counted_by_reason():
    store = store_of(
        troubles(headers()),
        model_load(headers("load"), issues=(DegradeReason.TOKENIZER_MERGES_MISSING,)),
    )
    assert value(store, "kv_cache_evictions_total", MODEL, "KV_CACHE_EVICTION") == 1
    budget = (MODEL, "MEMORY_BUDGET_SOFT_LIMIT", "kv_cache")
    assert value(store, "memory_budget_events_total", *budget) == 1
    assert value(store, "degraded_total", "CONTEXT_TRUNCATION") == 1
    assert value(store, "log_events_total", "warn") == 1
    assert value(store, "tokenizer_issues_total", MODEL, "TOKENIZER_MERGES_MISSING") == 1


def test_live_requests_are_counted_where_they_are():
    header = headers()
    events = iter(list(request(header)))
    store = MetricStore()
    seen = []
    for event in events:
        store.take(event)
        seen.append((value(store, "queue_depth", MODEL), value(store, "requests_in_flight", MODEL)))
    assert seen[0] == (1, 0)
    assert seen[1] == (0, 1)
    assert seen[-2] == (0, 1)
    assert seen[-1] == (0, 0)


@pytest.mark.parametrize("build", [rejected_request, cancelled_in_queue])
def test_a_request_that_never_ran_leaves_the_queue(build):
    store = store_of(build(headers()))
    assert value(store, "queue_depth", MODEL) == 0
    assert value(store, "requests_in_flight", MODEL) == 0


def test_requests_that_share_an_id_are_counted_each():
    store = store_of(list(request(headers()))[:2], list(request(headers()))[:2])
    assert value(store, "requests_in_flight", MODEL) == 2
    for event in list(request(headers()))[-1:]:
        store.take(event)
    assert value(store, "requests_in_flight", MODEL) == 1


def test_every_known_label_value_is_there_at_zero_once_a_model_is_seen():
    store = store_of(list(model_load(headers()))[:1])
    for family, rows in store.snapshot().items():
        if family.kind is MetricKind.COUNTER and family.readings:
            assert bool(rows) == bool(list(known_values(family))), family.name
            assert all(one_row.value == 0 for one_row in rows.values()), family.name
        if family.kind is MetricKind.HISTOGRAM:
            # Signals that must be asked for are there once they were.
            assert bool(rows) == bool(list(known_values(family))), family.name
            assert all(sum(one_row.counts) == 0 for one_row in rows.values()), family.name
    assert value(store, "requests_in_flight", MODEL) == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.5])
def test_a_value_that_would_poison_a_sum_is_left_out_and_counted(bad):
    store = store_of([token(headers(), engine_s=bad, consumer_s=bad)])
    assert series(store, "inter_token_seconds", MODEL).total == 0.0
    assert sum(series(store, "inter_token_seconds", MODEL).counts) == 0
    assert value(store, "generated_tokens_total", MODEL) == 1
    assert value(store, "telemetry_invalid_values_total") == 2


def test_a_poisoned_row_leaves_the_other_rows_standing():
    (stopped,) = list(request(headers()))[-1:]
    store = store_of([stopped._replace(ledger=(("queue", float("nan")), ("decode", 1.0)))])
    assert value(store, "request_phase_seconds_total", MODEL, "queue") == 0
    assert value(store, "request_phase_seconds_total", MODEL, "decode") == 1.0
    assert value(store, "telemetry_invalid_values_total") == 1


def test_models_beyond_the_limit_are_counted_together():
    header = headers()
    store = store_of([token(header, model=f"m{n}") for n in range(5)], max_models=2)
    rows = {family.name: rows for family, rows in store.snapshot().items()}
    tokens = {values: row.value for values, row in rows["generated_tokens_total"].items()}
    assert tokens == {("m0",): 1, ("m1",): 1, (OTHER,): 3}


def test_other_labels_are_limited_too():
    header = headers()
    events = [
        MemoryHighWater(*header(), model=MODEL, category=f"c{n}", high_water_bytes=n)
        for n in range(100)
    ]
    store = store_of(events)
    rows = {family.name: rows for family, rows in store.snapshot().items()}
    assert len(rows["memory_high_water_bytes"]) <= 17
    assert rows["memory_high_water_bytes"][MODEL, OTHER].value == 99


@pytest.mark.parametrize(
    ("name", "shown"),
    [("", "unknown"), ("\ud800", "?"), ("x" * 1000, "x" * LONGEST_LABEL), ("a\nb", "a\nb")],
)
def test_names_are_made_fit_for_labels(name, shown):
    store = store_of([token(headers(), model=name)])
    assert value(store, "generated_tokens_total", shown) == 1


def test_a_late_reading_does_not_overwrite_a_newer_one():
    older, newer = headers(), headers(first=10)

    def usage(header, used):
        return KVCacheUsage(
            *header(), model=MODEL, used_tokens=used, capacity_tokens=100, used_bytes=used
        )

    store = store_of([usage(newer, 50), usage(older, 20)])
    assert value(store, "kv_cache_used_tokens", MODEL) == 50


def test_a_high_water_mark_never_falls():
    header = headers()
    events = [
        MemoryHighWater(*header(), model=MODEL, category="weights", high_water_bytes=n)
        for n in (10, 30, 20)
    ]
    assert value(store_of(events), "memory_high_water_bytes", MODEL, "weights") == 30


def test_totals_are_exact_under_threads_while_others_look():
    store = MetricStore()
    threads, tokens = 8, 2000
    done = threading.Event()
    looks = []

    def work(number):
        header = headers(f"req-{number}")
        for _ in range(tokens):
            store.take(token(header, engine_s=0.25, consumer_s=0.5))

    def look():
        while not done.is_set():
            snapshot = {family.name: rows for family, rows in store.snapshot().items()}
            if (MODEL,) in snapshot["generated_tokens_total"]:
                looks.append(
                    (
                        snapshot["generated_tokens_total"][MODEL,].value,
                        sum(snapshot["inter_token_seconds"][MODEL,].counts),
                        snapshot["consumer_wait_seconds"][MODEL,].total * 2,
                    )
                )

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    watcher = threading.Thread(target=look)
    for thread in (watcher, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    watcher.join()
    total = threads * tokens
    assert value(store, "generated_tokens_total", MODEL) == total
    assert series(store, "inter_token_seconds", MODEL).total == total * 0.25
    assert sum(series(store, "consumer_wait_seconds", MODEL).counts) == total
    assert store.taken == total
    assert looks
    assert all(len(set(look)) == 1 for look in looks)
    assert looks == sorted(looks)


def test_an_event_published_in_the_middle_of_another_does_not_deadlock():
    inner = token(headers("req-2"))
    fresh = [True]

    def reading(event):
        if fresh.pop() if fresh else False:  # as when the collector closes a stream in here
            store.take(inner)
        return 1

    family = Family(
        name="x_total",
        kind=MetricKind.COUNTER,
        help="X.",
        labels=(MODEL_LABEL,),
        readings=(one(TokenGenerated, reading),),
    )
    store = MetricStore((family,))
    worker = threading.Thread(target=store.take, args=(token(headers()),), daemon=True)
    worker.start()
    worker.join(5.0)
    assert not worker.is_alive()
    assert store.snapshot()[family][MODEL,].value == 2


def test_a_snapshot_is_not_changed_by_later_events():
    store = store_of(request(headers()))
    before = series(store, "inter_token_seconds", MODEL)
    counts = before.counts.copy()
    store.take(token(headers("req-2")))
    assert before.counts == counts


def test_events_that_nothing_counts_are_ignored():
    header = headers()
    ignored = [e for e in request(header) if not e.kind & MetricStore().interests]
    store = store_of(ignored)
    assert store.taken == 0


def test_stages_are_followed_without_other_families():
    stages = tuple(family for family in FAMILIES if family.stage)
    store = MetricStore(stages)
    header = headers(correlation())
    store.take(RequestQueued(*header(), model=MODEL, queue_depth=1))
    store.take(RequestAdmitted(*header(), model=MODEL, queue_s=0.0, queue_depth=0, in_flight=1))
    assert value(store, "requests_in_flight", MODEL) == 1


def test_series_of_two_engines_add_up():
    mine, other = store_of(request(headers())), store_of(request(headers(first=100)))
    total = mine.snapshot()
    merge(total, other.snapshot())
    rows = {family.name: rows for family, rows in total.items()}
    assert rows["generated_tokens_total"][MODEL,].value == 8
    assert rows["kv_cache_capacity_tokens"][MODEL,].value == 4096
    assert sum(rows["inter_token_seconds"][MODEL,].counts) == 6
    exemplars = rows["time_to_first_token_seconds"][MODEL,].exemplars
    newest = max(e.wall_s for e in exemplars if e)
    assert newest == next(
        e.wall_s
        for e in series(other, "time_to_first_token_seconds", MODEL).exemplars
        if e is not None
    )


def test_of_gauges_that_do_not_add_up_the_newest_counts():
    newer, older = Gauge(summed=False), Gauge(summed=False)
    newer.value, newer.sequence = 5, 9
    older.value, older.sequence = 3, 2
    older.merge(newer.copy())
    newer.merge(older.copy())
    assert (older.value, newer.value) == (5, 5)


def test_bounds_of_buckets_are_inclusive():
    histogram = Histogram((1.0, 2.0))
    for number in (0.0, 1.0, 1.5, 2.0, 2.5):
        histogram.add(number, None)
    assert histogram.counts == [2, 2, 1]


def test_a_trace_that_is_not_sampled_leaves_no_exemplar():
    histogram = Histogram((1.0,), exemplars=True)
    histogram.add(0.5, token(headers(correlation(trace_flags=0))))
    assert histogram.exemplars == [None, None]


def test_counters_copy_their_number():
    counter = Counter(2)
    copy = counter.copy()
    counter.add(1, None)
    assert (counter.value, copy.value) == (3, 2)
