"""Events of every token reach metrics and spans beside the queue, in bursts."""

from __future__ import annotations

import pytest

from otlp_receiver import attributes, total
from smallmind_engine.telemetry import BatchStepped, EventBus, FlushResult, TokenGenerated
from smallmind_exporters.otlp import OtlpExporter, details, records
from telemetry_doubles import IDS
from telemetry_events import MODEL, correlation, headers, request

COUNT = 100


@pytest.fixture
def tell_tokens():
    """Publish tokens and steps as the engine does, and flush; answers what that said."""

    def run(exporter: OtlpExporter) -> FlushResult:
        bus = EventBus()
        with bus.subscribe(exporter):
            emitter = bus.emitter(IDS)
            for index in range(COUNT):
                emitter.tell(BatchStepped, MODEL, 1, 0, 1, 0.005, 0, 1)
                emitter.tell(TokenGenerated, MODEL, index, 0.006, 0.0, None)
            return bus.flush(10.0)["otlp"]

    return run


def test_tokens_that_waited_are_counted_sent_and_told_by_flush(receiver, tell_tokens):
    with OtlpExporter(endpoint=receiver.endpoint, signals=["metrics"]) as exporter:
        assert exporter.backlog is not None
        assert tell_tokens(exporter) == FlushResult(delivered=2 * COUNT)
        assert not exporter.backlog
    assert total(receiver.metrics["smallmind.generated_tokens"]) == COUNT
    assert (
        total(receiver.metrics["smallmind.batch.tokens"], **{"smallmind.kind": "decode"}) == COUNT
    )


def test_tokens_that_wait_when_the_exporter_is_closed_are_sent(receiver):
    bus = EventBus()
    with OtlpExporter(endpoint=receiver.endpoint, signals=["metrics"]) as exporter:
        bus.subscribe(exporter)
        emitter = bus.emitter(IDS)
        for index in range(COUNT):
            emitter.tell(TokenGenerated, MODEL, index, 0.006, 0.0, None)
        bus.close()
    assert total(receiver.metrics["smallmind.generated_tokens"]) == COUNT


def told_tokens(receiver) -> list[int]:
    """The indices of the tokens on the one decode span, in their order there."""
    events = receiver.span("decode").events
    return [attributes(event.attributes)["smallmind.index"] for event in events]


@pytest.mark.parametrize("detail", ["token", "kernel"])
def test_tokens_that_spans_show_come_beside_the_queue(receiver, detail):
    events = list(request(headers("req-1"), tokens=COUNT))
    bus = EventBus()
    with OtlpExporter(endpoint=receiver.endpoint, detail=detail) as exporter:
        assert exporter.backlog is not None
        with bus.subscribe(exporter):
            for event in events:
                bus.emitter(event.correlation).publish(event)
            assert bus.flush(10.0)["otlp"] == FlushResult(delivered=len(events))
    assert told_tokens(receiver) == list(range(COUNT))
    assert total(receiver.metrics["smallmind.generated_tokens"]) == COUNT


def test_tokens_wait_for_the_request_that_they_belong_to(receiver):
    """Who reads metrics may take tokens before the queue comes to the request's beginning."""
    events = list(request(headers("req-1"), tokens=COUNT))
    with OtlpExporter(endpoint=receiver.endpoint, detail="token") as exporter:
        exporter.backlog.extend(e for e in events if isinstance(e, TokenGenerated))
        assert exporter.flush(10.0).pending == COUNT
        assert not exporter.backlog
        for event in events:
            if not isinstance(event, TokenGenerated):
                exporter.export(event)
        assert exporter.flush(10.0) == FlushResult(delivered=len(events))
    assert told_tokens(receiver) == list(range(COUNT))


def test_tokens_of_a_request_that_still_runs_are_pending(receiver):
    events = list(request(headers("req-1"), tokens=COUNT))
    bus = EventBus()
    with OtlpExporter(endpoint=receiver.endpoint, detail="token") as exporter:
        with bus.subscribe(exporter):
            for event in events[:-1]:
                bus.emitter(event.correlation).publish(event)
            answer = bus.flush(10.0)["otlp"]
        told = sum(not event.kind & records.KINDS for event in events)  # in metrics only
        assert answer == FlushResult(delivered=told, pending=len(events) - 1 - told)
        exporter.export(events[-1])
        assert exporter.flush(10.0) == FlushResult(delivered=len(events))
    assert told_tokens(receiver) == list(range(COUNT))


def test_tokens_that_nobody_takes_in_time_are_counted_as_lost(receiver, monkeypatch):
    monkeypatch.setattr(details, "MOST_WAITING", 10)
    events = list(request(headers("req-1"), tokens=15))
    with OtlpExporter(endpoint=receiver.endpoint, detail="token") as exporter:
        exporter.backlog.extend(e for e in events if isinstance(e, TokenGenerated))
        for event in events:
            if not isinstance(event, TokenGenerated):
                exporter.export(event)
        answer = exporter.flush(10.0)
        assert answer.dropped == exporter.lost == 10
        assert answer.delivered + answer.dropped == len(events)
    assert told_tokens(receiver) == list(range(10, 15))


def test_engines_that_share_an_exporter_keep_their_tokens(receiver):
    """Each bus has a queue of its own, and one may be a second behind the other."""
    first = list(request(headers(correlation("req-1")), tokens=COUNT))
    second = list(request(headers(correlation("req-2"), first=1000), tokens=COUNT))
    with OtlpExporter(endpoint=receiver.endpoint, detail="token") as exporter:
        exporter.backlog.extend(e for e in first if isinstance(e, TokenGenerated))
        exporter.backlog.extend(e for e in second if isinstance(e, TokenGenerated))
        for events in (second, first):  # the later request's queue is worked off first
            for event in events:
                if not isinstance(event, TokenGenerated):
                    exporter.export(event)
        assert exporter.flush(10.0) == FlushResult(delivered=len(first) + len(second))
    spans = [span for span in receiver.spans if span.name == "decode"]
    told = [[attributes(e.attributes)["smallmind.index"] for e in span.events] for span in spans]
    assert told == [list(range(COUNT))] * 2


def test_requests_with_one_id_keep_their_tokens(receiver):
    ids = [correlation("same", trace_id=f"{n:032x}", span_id=f"{n:016x}") for n in (1, 2)]
    streams = [list(request(headers(each), tokens=5 + n)) for n, each in enumerate(ids)]
    with OtlpExporter(endpoint=receiver.endpoint, detail="token") as exporter:
        for events in streams:
            exporter.backlog.extend(e for e in events if isinstance(e, TokenGenerated))
        for events in streams:
            for event in events:
                if not isinstance(event, TokenGenerated):
                    exporter.export(event)
        exporter.flush(10.0)
    spans = [span for span in receiver.spans if span.name == "decode"]
    assert sorted(len(span.events) for span in spans) == [5, 6]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "1"), ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5")],
)
def test_limits_of_the_sdk_hold_for_tokens(receiver, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    events = list(request(headers("req-1"), tokens=3))
    with OtlpExporter(endpoint=receiver.endpoint, detail="token") as exporter:
        for event in events:
            exporter.export(event)
        exporter.flush(10.0)
    most = int(value) if "COUNT" in variable else 3
    assert [len(event.attributes) for event in receiver.span("decode").events] == [most] * 3


def test_differences_instead_of_sums_are_recorded_as_events_come(
    receiver, monkeypatch, tell_tokens
):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    with OtlpExporter(endpoint=receiver.endpoint, signals=["metrics"]) as exporter:
        assert exporter.backlog is None
        assert tell_tokens(exporter) == FlushResult(delivered=2 * COUNT)


def test_histograms_without_bounds_are_left_to_the_sdk(receiver, monkeypatch, tell_tokens):
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "base2_exponential_bucket_histogram",
    )
    with OtlpExporter(endpoint=receiver.endpoint, signals=["metrics"]) as exporter:
        assert exporter.backlog is None
        assert tell_tokens(exporter) == FlushResult(delivered=2 * COUNT)
