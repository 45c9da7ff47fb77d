"""Events of every token reach the metrics beside the queue, unless spans need them."""

from __future__ import annotations

import pytest

from otlp_receiver import total
from smallmind_engine.telemetry import BatchStepped, EventBus, FlushResult, TokenGenerated
from smallmind_exporters.otlp import OtlpExporter
from telemetry_doubles import IDS
from telemetry_events import MODEL

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


@pytest.mark.parametrize("detail", ["token", "kernel"])
def test_tokens_that_spans_show_go_through_the_queue(receiver, detail, tell_tokens):
    with OtlpExporter(endpoint=receiver.endpoint, detail=detail) as exporter:
        assert exporter.backlog is None
        assert tell_tokens(exporter) == FlushResult(delivered=2 * COUNT)
    assert total(receiver.metrics["smallmind.generated_tokens"]) == COUNT


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
