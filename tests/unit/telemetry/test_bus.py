"""The bus carries events and keeps exporters' troubles away from the engine."""

from __future__ import annotations

import gc
import threading
import traceback

import pytest

from smallmind_engine.telemetry import (
    ALL_KINDS,
    NO_KINDS,
    Correlation,
    Degraded,
    DegradeReason,
    EventBus,
    EventKind,
    ExporterError,
    FlushResult,
    LogLevel,
    QueuedExporter,
    ReasonCode,
    RuntimeLogEvent,
    RuntimeLoggerAdapter,
    TokenGenerated,
    correlated,
    events,
)
from smallmind_engine.telemetry.bus import DETACHED_REMEMBERED
from smallmind_engine.telemetry.exporting import MAX_VISITS
from smallmind_engine.telemetry.subscription import FAILURES_BEFORE_DETACH
from telemetry_doubles import IDS, Recorder, publish_tokens, raising, token


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def test_events_arrive_in_the_order_of_publishing():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    publish_tokens(bus.emitter(IDS), 10)
    assert list(range(10)) == [event.index for event in recorder.events]


def test_sequences_have_no_gap_and_times_never_go_back():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    publish_tokens(bus.emitter(IDS), 20)
    first = recorder.events[0].sequence
    assert list(range(first, first + 20)) == [event.sequence for event in recorder.events]
    times = [event.time_ns for event in recorder.events]
    assert sorted(times) == times


def test_an_event_reaches_only_those_who_want_its_kind():
    bus = EventBus()
    logs, tokens = (
        Recorder("logs", interests=EventKind.LOG),
        Recorder("tokens", interests=EventKind.TOKEN_GENERATED),
    )
    bus.subscribe(logs)
    bus.subscribe(tokens)
    publish_tokens(bus.emitter(IDS), 1)
    assert (len(logs.events), len(tokens.events)) == (0, 1)


def test_interests_may_be_narrowed_but_not_widened_when_subscribing():
    bus = EventBus()
    subscription = bus.subscribe(
        Recorder(interests=EventKind.LOG | EventKind.DEGRADED), ALL_KINDS - EventKind.LOG
    )
    assert EventKind.DEGRADED == subscription.interests == bus.wants


def test_without_a_subscriber_nothing_is_wanted():
    bus = EventBus()
    assert NO_KINDS == bus.wants == bus.emitter().wants
    with bus.subscribe(Recorder(interests=EventKind.LOG)):
        assert bus.wants == EventKind.LOG
    assert bus.wants == NO_KINDS


def test_no_event_is_built_for_a_log_call_that_nobody_wants(monkeypatch):
    built = []
    monkeypatch.setattr(RuntimeLogEvent, "__new__", lambda *args, **_: built.append(args))
    bus = EventBus()
    bus.subscribe(Recorder(interests=EventKind.TOKEN_GENERATED))
    log = RuntimeLoggerAdapter("test", bus.emitter(IDS))
    log.info("nobody listens", a=1)
    log.error("nobody listens", error=ValueError("x"))
    assert built == []


def test_no_event_object_exists_after_a_guarded_site_ran_without_a_subscriber():
    emitter = EventBus().emitter(IDS)
    gc.collect()
    before = sum(issubclass(type(thing), events.Event) for thing in gc.get_objects())
    for index in range(1000):
        if emitter.wants & EventKind.TOKEN_GENERATED:
            emitter.publish(token(emitter, index))
    assert before == sum(issubclass(type(thing), events.Event) for thing in gc.get_objects())


def test_a_subscriber_added_during_a_request_sees_whole_requests_only():
    bus, early, late = EventBus(), Recorder("early"), Recorder("late")
    bus.subscribe(early)
    running = bus.emitter(IDS)
    publish_tokens(running, 1)
    bus.subscribe(late)
    publish_tokens(running, 2)
    publish_tokens(bus.emitter(IDS), 4)
    assert (len(early.events), len(late.events)) == (7, 4)


def test_a_closed_subscription_gets_nothing_more_even_from_running_requests():
    bus, recorder = EventBus(), Recorder()
    subscription = bus.subscribe(recorder)
    emitter = bus.emitter(IDS)
    subscription.close()
    subscription.close()
    publish_tokens(emitter, 3)
    assert (len(recorder.events), recorder.closed) == (0, 0)


def test_the_same_exporter_cannot_be_subscribed_twice_to_one_bus():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)
    with pytest.raises(ExporterError, match=r"recorder.*already") as caught:
        bus.subscribe(recorder)
    assert caught.value.reason is ReasonCode.EXPORTER_SUBSCRIBED_TWICE
    publish_tokens(bus.emitter(IDS), 1)
    assert len(recorder.events) == 1


def test_one_exporter_may_serve_two_engines_in_one_process():
    recorder = Recorder()
    buses = EventBus(), EventBus()
    for bus in buses:
        bus.subscribe(recorder)
        publish_tokens(bus.emitter(IDS), 2)
    assert len(recorder.events) == 4


def test_an_exporter_may_come_back_after_its_subscription_was_closed():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder).close()
    bus.subscribe(recorder)
    publish_tokens(bus.emitter(IDS), 1)
    assert len(recorder.events) == 1


def test_an_exporter_that_always_raises_changes_nothing_for_the_others():
    bus, good = EventBus(), Recorder("good")
    bus.subscribe(Recorder("bad", on_export=raising(ValueError("boom"))))
    bus.subscribe(good)
    publish_tokens(bus.emitter(IDS), 50)
    assert list(range(50)) == [event.index for event in good.of(TokenGenerated)]


def test_a_failure_is_told_once_in_the_log_with_ids_of_its_own():
    bus, good = EventBus(), Recorder("good")
    bus.subscribe(Recorder("bad", on_export=raising(ValueError("boom"))))
    bus.subscribe(good)
    publish_tokens(bus.emitter(IDS), 3)
    [told] = good.of(RuntimeLogEvent)
    assert (told.level, told.reason, told.error) == (
        LogLevel.WARN,
        ReasonCode.EXPORTER_FAILED,
        "ValueError",
    )
    assert told.properties == {"exporter": "bad", "detail": "boom"}
    assert told.correlation.request_id != IDS.request_id


def test_an_exporter_is_detached_after_failures_in_a_row_and_the_others_are_told():
    bus, good = EventBus(), Recorder("good")
    bad = Recorder("bad", on_export=raising(ValueError("boom")))
    subscription = bus.subscribe(bad)
    bus.subscribe(good)
    publish_tokens(bus.emitter(IDS), FAILURES_BEFORE_DETACH + 10)
    [told] = good.of(Degraded)
    assert (told.reason, told.component) == (DegradeReason.EXPORTER_DETACHED, "exporter:bad")
    health = {h.name: h for h in bus.health()}
    assert (
        health["bad"].attached,
        health["bad"].errors,
        health["bad"].last_error,
    ) == (False, FAILURES_BEFORE_DETACH, "ValueError: boom")
    assert health["good"].attached
    assert not subscription.active


def test_failures_that_are_not_in_a_row_do_not_detach():
    bus = EventBus()
    calls = iter(range(1000))

    def every_second_time(_):
        if next(calls) % 2:
            raise OSError

    bus.subscribe(Recorder("flaky", on_export=every_second_time))
    publish_tokens(bus.emitter(IDS), 100)
    [health] = bus.health()
    assert (health.attached, health.errors) == (True, 50)


def test_an_error_whose_text_cannot_be_made_does_not_reach_the_engine():
    bus, good = EventBus(), Recorder("good")
    bus.subscribe(Recorder("bad", on_export=raising(UnprintableError())))
    bus.subscribe(good)
    publish_tokens(bus.emitter(IDS), 10)
    assert len(good.of(TokenGenerated)) == 10
    assert "UnprintableError: <unprintable UnprintableError>" in {
        h.last_error for h in bus.health()
    }


@pytest.mark.parametrize("passing", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_passes_through(passing):
    bus, recorder = EventBus(), Recorder(on_export=raising(passing()))
    bus.subscribe(recorder)
    emitter = bus.emitter(IDS)
    with pytest.raises(passing):
        publish_tokens(emitter, 1)
    recorder.on_export = None
    publish_tokens(emitter, 1)
    assert (len(recorder.events), bus.health()[0].errors) == (1, 0)


def test_a_thousand_subscribers_that_all_fail_are_all_detached_without_deep_recursion():
    bus = EventBus()
    for number in range(1000):
        bus.subscribe(
            Recorder(
                str(number), interests=EventKind.TOKEN_GENERATED, on_export=raising(ValueError())
            )
        )
    publish_tokens(bus.emitter(IDS), FAILURES_BEFORE_DETACH)
    assert bus.wants == NO_KINDS
    assert len(bus.health()) == DETACHED_REMEMBERED


def test_exporters_that_fail_on_the_notices_of_failures_come_to_an_end_on_a_flat_stack():
    bus, depths = EventBus(), []

    def fail(_):
        depths.append(len(traceback.extract_stack()))
        raise ValueError

    for number in range(60):
        bus.subscribe(Recorder(str(number), on_export=fail))
    publish_tokens(bus.emitter(IDS), 1)
    assert bus.wants == NO_KINDS
    assert max(depths) - min(depths) < 20


def test_a_thousand_subscribers_each_get_every_event():
    bus = EventBus()
    recorders = [Recorder(str(number)) for number in range(1000)]
    for recorder in recorders:
        bus.subscribe(recorder)
    publish_tokens(bus.emitter(IDS), 3)
    assert {3} == {len(recorder.events) for recorder in recorders}


def test_an_exporter_that_publishes_is_not_fed_with_its_own_events_but_the_others_are():
    bus, other = EventBus(), Recorder("other")
    echo = Recorder("echo")
    echo.on_export = lambda _: publish_tokens(bus.emitter(IDS), 1)
    bus.subscribe(echo)
    bus.subscribe(other)
    publish_tokens(bus.emitter(IDS), 1)
    assert (len(echo.events), len(other.events)) == (1, 2)


def test_two_exporters_that_answer_each_other_come_to_an_end():
    bus = EventBus()
    echoes = [Recorder("a"), Recorder("b")]
    for echo in echoes:
        echo.on_export = lambda _: publish_tokens(bus.emitter(IDS), 1)
        bus.subscribe(echo)
    publish_tokens(bus.emitter(IDS), 1)
    assert [len(echo.events) for echo in echoes] == [2, 2]


def test_two_queued_exporters_that_answer_each_other_come_to_an_end():
    bus = EventBus()
    echoes = [Recorder("a", inline=False), Recorder("b", inline=False)]
    for echo in echoes:
        echo.on_export = lambda _: publish_tokens(bus.emitter(IDS), 1)
        bus.subscribe(echo)
    publish_tokens(bus.emitter(IDS), 1)
    for _ in echoes:
        assert all(answer.complete for answer in bus.flush(10.0).values())
    assert [len(echo.events) for echo in echoes] == [2, 2]
    bus.close()


def test_an_exporter_that_is_not_inline_is_called_from_a_thread_of_its_own():
    bus, slow = EventBus(), Recorder("slow", inline=False)
    bus.subscribe(slow)
    publish_tokens(bus.emitter(IDS), 5)
    assert bus.flush(10.0)["slow"] == FlushResult(delivered=5)
    assert {"smallmind-slow"} == slow.threads
    bus.close()


def test_a_queued_exporter_that_fails_is_counted_told_and_detached():
    bus, good = EventBus(), Recorder("good")
    bus.subscribe(Recorder("bad", inline=False, on_export=raising(ValueError("boom"))))
    bus.subscribe(good)
    emitter = bus.emitter(IDS)
    detached = threading.Event()
    good.on_export = lambda event: detached.set() if isinstance(event, Degraded) else None
    publish_tokens(emitter, FAILURES_BEFORE_DETACH)
    assert detached.wait(10.0)
    health = {h.name: h for h in bus.health()}["bad"]
    assert (health.attached, health.errors) == (False, FAILURES_BEFORE_DETACH)
    assert len(good.of(RuntimeLogEvent)) == 1


def test_lost_events_are_counted_and_told_when_the_queue_is_empty_again():
    gate = threading.Event()
    bus, good = EventBus(), Recorder("good")
    slow = Recorder("slow", on_export=lambda _: gate.wait(10.0) and None)
    queue = QueuedExporter(slow, capacity=4)
    bus.subscribe(queue)
    bus.subscribe(good)
    told = threading.Event()
    good.on_export = lambda event: told.set() if isinstance(event, Degraded) else None
    publish_tokens(bus.emitter(IDS), 20)
    gate.set()
    assert told.wait(10.0)
    [notice] = good.of(Degraded)
    lost = {h.name: h.dropped for h in bus.health()}["slow"]
    assert (notice.reason, notice.component) == (DegradeReason.EVENTS_DROPPED, "exporter:slow")
    assert notice.message.startswith(f"{lost} events")
    assert queue.flush(10.0).dropped == lost
    assert (20 - lost, 1) == (len(slow.of(TokenGenerated)), len(slow.of(Degraded)))
    queue.close()


def test_a_queue_of_the_callers_own_is_watched_but_not_stopped_with_the_subscription():
    bus, good = EventBus(), Recorder("good")
    queue = QueuedExporter(Recorder("mine", on_export=raising(ValueError())))
    subscription = bus.subscribe(queue)
    bus.subscribe(good)
    publish_tokens(bus.emitter(IDS), 1)
    queue.flush(10.0)
    assert {h.name: h.errors for h in bus.health()}["mine"] == 1
    subscription.close()
    assert (queue.on_error, queue.on_drop) == (None, None)
    queue.export(good.events[0])
    assert queue.flush(10.0).failed == 2
    queue.close()


def test_flush_answers_by_name_and_adds_up_those_of_one_name():
    bus = EventBus()
    for _ in range(2):
        bus.subscribe(Recorder("twin", inline=False))
    publish_tokens(bus.emitter(IDS), 3)
    assert {"twin": FlushResult(delivered=6)} == bus.flush(10.0)
    bus.close()


def test_an_exporter_whose_flush_raises_is_reported_as_failed():
    bus, recorder = EventBus(), Recorder()
    recorder.flush = lambda timeout_s: 1 // 0
    bus.subscribe(recorder)
    assert bus.flush(1.0) == {"recorder": FlushResult(failed=1)}
    assert bus.health()[0].errors == 1


def test_closing_the_bus_passes_on_what_waits_and_leaves_the_exporters_open():
    bus = EventBus()
    recorders = [Recorder(str(number), inline=False) for number in range(3)]
    for recorder in recorders:
        bus.subscribe(recorder)
    publish_tokens(bus.emitter(IDS), 100)
    bus.close()
    bus.close()
    assert [(len(r.events), r.closed) for r in recorders] == [(100, 0)] * 3
    assert bus.wants == NO_KINDS


def test_an_emitter_without_ids_takes_the_current_ones_or_makes_them():
    bus = EventBus()
    with correlated(IDS):
        assert bus.emitter().correlation is IDS
    assert bus.emitter().correlation.request_id != bus.emitter().correlation.request_id


def test_an_exporter_that_publishes_through_an_emitter_of_before_comes_to_an_end():
    bus, echo, other = EventBus(), Recorder("echo"), Recorder("other")
    bus.subscribe(echo)
    bus.subscribe(other)
    emitter = bus.emitter(IDS)
    echo.on_export = lambda _: publish_tokens(emitter, 1)
    publish_tokens(emitter, 1)
    assert (len(echo.events), len(other.events)) == (MAX_VISITS, MAX_VISITS + 1)


def test_queued_exporters_that_publish_through_an_emitter_of_before_come_to_an_end():
    bus = EventBus()
    echoes = [Recorder("a", inline=False), Recorder("b", inline=False)]
    for echo in echoes:
        bus.subscribe(echo)
    emitter = bus.emitter(IDS)
    for echo in echoes:
        echo.on_export = lambda _: publish_tokens(emitter, 1)
    publish_tokens(emitter, 1)
    before = -1
    while before < sum(len(echo.events) for echo in echoes):
        before = sum(len(echo.events) for echo in echoes)
        assert all(answer.complete for answer in bus.flush(10.0).values())
    assert before < 1000
    bus.close()


def test_a_stream_that_the_garbage_collector_ends_inside_an_exporter_is_still_seen_to_end():
    bus, recorder = EventBus(), Recorder()
    bus.subscribe(recorder)

    def stream(emitter):
        try:
            yield
        finally:
            publish_tokens(emitter, 1)

    abandoned = stream(bus.emitter(IDS))
    next(abandoned)
    held = [abandoned]
    del abandoned
    ends = Correlation("req-2", None, "ab" * 16, "cd" * 8, 1, has_parent=False)
    recorder.on_export = lambda _: held.clear()
    publish_tokens(bus.emitter(ends), 1)
    assert [event.correlation for event in recorder.events] == [ends, IDS]


def test_an_exporter_behind_a_queue_of_the_callers_own_is_not_fed_with_its_own_events():
    bus, echo = EventBus(), Recorder("echo")
    echo.on_export = lambda _: publish_tokens(bus.emitter(IDS), 1)
    queue = QueuedExporter(echo)
    bus.subscribe(queue)
    publish_tokens(bus.emitter(IDS), 1)
    for _ in range(3):
        assert queue.flush(10.0).complete
    assert len(echo.events) == 1
    queue.close()
