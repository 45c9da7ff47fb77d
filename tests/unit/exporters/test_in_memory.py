"""The in-memory exporter: what it keeps, and what its assertions say when they fail."""

from __future__ import annotations

import threading

import pytest

from smallmind_engine.telemetry import (
    DegradeReason,
    EventBus,
    EventKind,
    FirstToken,
    FlushResult,
    InferenceStopped,
    LogLevel,
    RequestQueued,
    RuntimeLogEvent,
    StopReason,
    TokenGenerated,
)
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_exporters.memory import InMemoryExporter
from telemetry_events import (
    MODEL,
    TRACE_ID,
    cancelled_in_queue,
    correlation,
    headers,
    model_load,
    operations,
    publish,
    rejected_request,
    request,
    troubles,
)


def record_of(*streams, **options):
    record = InMemoryExporter(**options)
    for stream in streams:
        for event in stream:
            record.export(event)
    return record


def without(events, *types):
    return [event for event in events if not isinstance(event, types)]


def fails(message):
    return pytest.raises(AssertionError, match=message)


def test_events_are_kept_in_order():
    events = list(request(headers()))
    assert list(record_of(events).events) == events


def test_events_of_a_type_are_found():
    record = record_of(request(headers(), tokens=3), request(headers("req-2"), tokens=2))
    assert [event.index for event in record.of(TokenGenerated)] == [0, 1, 2, 0, 1]
    assert [event.index for event in record.of(TokenGenerated, request_id="req-2")] == [0, 1]


def test_events_of_a_request_are_found_with_its_log_lines():
    header = headers("req-2")
    line = RuntimeLogEvent(*header(), level=LogLevel.INFO, component="runtime", message="hello")
    record = record_of(request(headers()), [line], request(header))
    assert record.for_request("req-2") == (line, *request(headers("req-2", first=2)))
    assert record.request_ids == ("req-1", "req-2")


def test_operations_that_are_no_requests_are_not_listed_as_such():
    assert record_of(model_load(headers("load-1"))).request_ids == ()


def test_the_oldest_events_go_when_it_is_full_and_are_counted():
    events = list(request(headers()))
    record = record_of(events, capacity=3)
    assert list(record.events) == events[-3:]
    assert len(record) == 3
    assert record.dropped == len(events) - 3
    assert record.flush(0.0) == FlushResult(delivered=len(events), dropped=len(events) - 3)


def test_a_capacity_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="capacity is 0"):
        InMemoryExporter(capacity=0)


def test_clear_forgets_everything():
    record = record_of(request(headers()), capacity=2)
    record.clear()
    assert record.events == ()
    assert record.dropped == 0


def test_only_the_kinds_it_is_interested_in_are_sent_by_a_bus():
    record = InMemoryExporter(interests=EventKind.INFERENCE_STOPPED)
    bus = EventBus()
    with bus.subscribe(record):
        publish(bus, request)
    assert {type(event) for event in record.events} == {InferenceStopped}


def test_the_record_stays_readable_after_the_with_block_and_takes_no_more():
    with InMemoryExporter() as record:
        for event in request(headers()):
            record.export(event)
    record.export(record.events[0])
    record.assert_completed()
    assert len(record) == len(list(request(headers())))


def test_it_may_be_read_while_others_write():
    record = InMemoryExporter()
    writers = [
        threading.Thread(
            target=lambda n=n: [record.export(e) for _ in range(50) for e in request(headers(n))]
        )
        for n in ("req-1", "req-2", "req-3")
    ]
    for writer in writers:
        writer.start()
    lengths = [len(record.events) for _ in range(100)]
    for writer in writers:
        writer.join()
    assert lengths == sorted(lengths)
    assert len(record) == 3 * 50 * len(list(request(headers())))


class TestCompleted:
    def test_passes_when_every_request_completed(self):
        record_of(request(headers()), request(headers("req-2"))).assert_completed()

    def test_names_the_request_that_did_not_and_why(self):
        record = record_of(request(headers()), request(headers("req-2"), reason=StopReason.ERROR))
        with fails(r"request req-2 is failed \(ERROR, InferenceError\), expected completed"):
            record.assert_completed()
        record.assert_completed("req-1")

    def test_fails_when_a_request_has_not_ended(self):
        record = record_of(list(request(headers()))[:-1])
        with fails(r"request req-1 has not ended; its last event is KVCacheUsage #\d+"):
            record.assert_completed()

    def test_fails_when_there_is_no_request(self):
        with fails("no request is on record"):
            InMemoryExporter().assert_completed()

    def test_tells_that_events_were_dropped_when_nothing_is_left(self):
        record = record_of(request(headers()), troubles(headers("x")), capacity=2)
        with fails(r"no request is on record \(\d+ events dropped; raise capacity\)"):
            record.assert_completed()

    def test_names_the_known_requests_when_asked_for_another(self):
        with fails("request nobody is not on record; known: req-1"):
            record_of(request(headers())).assert_completed("nobody")


class TestStopped:
    def test_passes_for_the_right_reason(self):
        record_of(rejected_request(headers())).assert_stopped(StopReason.BACKPRESSURE_QUEUE_FULL)

    def test_says_which_reason_it_was(self):
        with fails("request req-1 stopped with MAX_TOKENS, expected CANCELLED_BY_CALLER"):
            record_of(request(headers())).assert_stopped(StopReason.CANCELLED_BY_CALLER)


class TestFirstTokenTime:
    def test_passes_below_the_limit(self):
        record_of(request(headers())).assert_ttft_below(0.33)

    def test_says_how_long_it_took(self):
        with fails(r"request req-1 had its first token after 0\.328125 s, expected below 0\.1 s"):
            record_of(request(headers())).assert_ttft_below(0.1)

    def test_fails_when_there_was_no_token(self):
        with fails(r"request req-1 had no token: cancelled \(CANCELLED_BY_CALLER\)"):
            record_of(cancelled_in_queue(headers())).assert_ttft_below(10.0)


class TestNoDegradation:
    def test_passes_for_a_healthy_run(self):
        record_of(model_load(headers("load")), request(headers())).assert_no_degradation()

    def test_lists_everything_that_was_degraded(self):
        issues = (DegradeReason.TOKENIZER_MERGES_MISSING,)
        record = record_of(model_load(headers("load"), issues=issues), troubles(headers()))
        with pytest.raises(AssertionError) as failure:
            record.assert_no_degradation()
        assert str(failure.value) == (
            "4 degradations: tokenizer of tiny: TOKENIZER_MERGES_MISSING;"
            " KV cache of tiny: KV_CACHE_EVICTION;"
            " memory for kv_cache: MEMORY_BUDGET_SOFT_LIMIT;"
            " runtime: CONTEXT_TRUNCATION (10 of 100 prompt tokens were left out of the middle)"
        )

    def test_does_not_vouch_for_a_record_that_is_not_whole(self):
        with fails(r"the record is not whole: \d+ events dropped; raise capacity \(now 3\)"):
            record_of(request(headers()), capacity=3).assert_no_degradation()


class TestOrdered:
    @pytest.mark.parametrize("build", [request, rejected_request, cancelled_in_queue])
    def test_passes_for_every_way_of_life(self, build):
        record_of(build(headers())).assert_ordered()

    def test_requests_may_run_side_by_side(self):
        one, two = headers(), headers("req-2", first=1000)
        pairs = zip(request(one), request(two), strict=True)
        record_of(event for pair in pairs for event in pair).assert_ordered()

    def test_a_missing_step_is_named(self):
        events = without(request(headers()), FirstToken)
        with fails(
            r"request req-1: TokenGenerated #\d+ came after PrefillEnded #\d+,"
            r" expected after FirstToken or TokenGenerated"
        ):
            record_of(events).assert_ordered()

    def test_an_event_before_the_request_was_queued_is_named(self):
        events = without(request(headers()), RequestQueued)
        with fails(r"RequestAdmitted #2 came after nothing, expected after RequestQueued"):
            record_of(events).assert_ordered()

    def test_a_second_stop_is_found(self):
        events = list(request(headers()))
        with fails(r"InferenceStopped #\d+ came after InferenceStopped #\d+"):
            record_of([*events, events[-1]._replace(sequence=99)]).assert_ordered()

    def test_a_request_without_an_end_is_found(self):
        with fails(r"request req-1: has not ended; its last event is KVCacheUsage"):
            record_of(list(request(headers()))[:-1]).assert_ordered()

    def test_a_lost_token_is_found(self):
        events = [e for e in request(headers()) if getattr(e, "index", None) != 2]
        with fails(r"TokenGenerated #\d+ has index 3, expected 2"):
            record_of(events).assert_ordered()

    def test_events_that_overtook_each_other_are_found(self):
        events = list(request(headers()))
        events[1] = events[1]._replace(sequence=0)
        with fails(r"RequestAdmitted #0 arrived after RequestQueued #1"):
            record_of(events).assert_ordered()

    def test_a_record_that_is_not_whole_proves_no_order(self):
        with fails("the record is not whole"):
            record_of(request(headers()), capacity=3).assert_ordered()


class TestCorrelated:
    def test_passes_when_all_ids_hold_together(self):
        record_of(model_load(headers("load")), request(headers())).assert_correlated(TRACE_ID)

    def test_an_event_that_lost_the_request_s_ids_is_named(self):
        events = list(request(headers()))
        events[3] = events[3]._replace(correlation=correlation(session_id="other"))
        with fails(r"request req-1: InferenceStarted #4 carries .*other.* began with"):
            record_of(events).assert_correlated()

    def test_a_request_of_another_trace_is_named(self):
        with fails(f"request req-1 belongs to trace {TRACE_ID}, expected {'a' * 32}"):
            record_of(request(headers())).assert_correlated("a" * 32)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"trace_id": "0" * 32}, "trace_id is '0{32}', which is not a W3C id"),
            ({"span_id": "XYZ"}, "span_id is 'XYZ', which is not a W3C id"),
            ({"request_id": ""}, "has no request id"),
        ],
    )
    def test_malformed_ids_are_named(self, change, message):
        with fails(message):
            record_of(request(headers(correlation(**change)))).assert_correlated()


def test_a_real_bus_keeps_order_and_ids():
    record = InMemoryExporter()
    bus = EventBus()
    with bus.subscribe(record):
        workers = [
            threading.Thread(target=publish, args=(bus, request, correlation(f"req-{n}")))
            for n in range(8)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert len(record.request_ids) == 8
    record.assert_ordered()
    record.assert_correlated()
    record.assert_completed()
    assert {event.model for event in record.of(InferenceStopped)} == {MODEL}


def test_the_roofline_of_operations_can_be_asked_for():
    events = list(operations(headers()))
    record = record_of(events)
    rows = {row.op: row for row in record.roofline()}
    assert set(rows) == {"qkv", "output"}
    assert rows["qkv"].calls == 2
    assert rows["output"].compute_share == 16_000_000 / 0.0009765625 / 128e9
    assert [row.calls for row in record.roofline(request_id="req-1")] == [2, 2]
    assert record.roofline(request_id="another") == ()
    assert record_of(request(headers())).roofline() == ()


def test_the_machine_is_known_to_requests_that_came_after_the_load():
    machine, *ran = operations(headers("load"))
    mine = [event._replace(correlation=correlation("req-9")) for event in ran]
    rows = record_of([machine], mine).roofline(request_id="req-9")
    assert all(row.read_share is not None for row in rows)
