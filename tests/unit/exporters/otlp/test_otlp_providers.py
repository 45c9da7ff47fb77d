"""The host's providers are used when there are any, and none of ours is ever made global."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracerProvider

from smallmind.testing import request_events, sample_correlation
from smallmind_engine.telemetry import LogLevel, RuntimeLogEvent, new_correlation
from smallmind_exporters.otlp import OtlpExporter
from telemetry_events import SPAN_ID, TRACE_ID, correlation, headers, request

TESTS = Path(__file__).parents[3]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def tracer_provider(spans):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


def traced(events, provider, **options):
    with OtlpExporter(signals=["traces"], tracer_provider=provider, **options) as exporter:
        for event in events:
            if event.kind & exporter.interests:
                exporter.export(event)
        assert exporter.flush(5.0).complete


def test_spans_go_to_the_hosts_provider_with_the_ids_of_the_request(spans, tracer_provider):
    traced(request(headers(correlation(has_parent=False))), tracer_provider)
    *_, root = spans.get_finished_spans()
    assert f"{root.context.trace_id:032x}" == TRACE_ID
    assert f"{root.context.span_id:016x}" == SPAN_ID
    assert root.resource is tracer_provider.resource


def test_a_request_is_a_child_of_the_span_that_was_current(spans, tracer_provider):
    with tracer_provider.get_tracer("host").start_as_current_span("checkout") as host:
        ids = new_correlation()
    traced(request(headers(ids)), tracer_provider)
    found = {span.name: span for span in spans.get_finished_spans()}
    ours = found["text_completion tiny"]
    assert ours.parent is not None
    assert ours.parent.span_id == host.get_span_context().span_id
    assert ours.context.trace_id == host.get_span_context().trace_id
    assert found["decode"].parent == ours.context


def test_other_spans_of_the_host_keep_ids_of_their_own(spans, tracer_provider):
    traced(request(headers(correlation(has_parent=False))), tracer_provider)
    with tracer_provider.get_tracer("host").start_as_current_span("own") as own:
        pass
    assert f"{own.get_span_context().trace_id:032x}" != TRACE_ID


def test_two_exporters_on_one_provider_mix_up_no_ids(spans, tracer_provider):
    for number in range(2):
        ids = correlation(f"req-{number}", span_id=f"{number + 1:016x}", has_parent=False)
        traced(request(headers(ids)), tracer_provider)
    roots = [span for span in spans.get_finished_spans() if span.parent is None]
    assert [span.context.span_id for span in roots] == [1, 2]


def test_a_provider_that_samples_nothing_is_obeyed(spans):
    traced(request(headers(correlation())), NoOpTracerProvider())
    assert spans.get_finished_spans() == ()


def test_metrics_go_to_the_hosts_provider_and_add_up_over_exporters():
    """The SDK would silently forget the callbacks of a second set of instruments."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    exporters = [OtlpExporter(signals=["metrics"], meter_provider=provider) for _ in range(2)]
    for exporter in exporters:
        for event in request_events(tokens=4):
            exporter.export(event)
    assert _number(reader, "smallmind.generated_tokens") == 8
    exporters[0].close()
    assert _number(reader, "smallmind.generated_tokens") == 8
    assert _number(reader, "gen_ai.server.request.duration") == 2
    exporters[1].close()
    assert _number(reader, "smallmind.generated_tokens") == 8


def _number(reader, name):
    data = reader.get_metrics_data()
    (metric,) = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
    ]
    return sum(getattr(p, "value", getattr(p, "count", 0)) for p in metric.data.data_points)


def test_log_records_go_to_the_hosts_provider():
    records = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(records))
    with OtlpExporter(signals=["logs"], logger_provider=provider) as exporter:
        exporter.export(
            RuntimeLogEvent(1, 1, sample_correlation(), LogLevel.INFO, "runtime", "hello")
        )
    (record,) = records.get_finished_logs()
    assert record.log_record.body == "hello"
    assert record.log_record.trace_id == int(sample_correlation().trace_id, 16)


def test_a_span_processor_of_the_host_that_raises_reaches_no_request(spans):
    """The SDK lets such exceptions through; the bus's border counts them as ours."""
    from opentelemetry.sdk.trace import SpanProcessor

    from smallmind_engine.telemetry import EventBus

    class Raising(SpanProcessor):
        def on_end(self, span):
            raise RuntimeError("processor")

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Raising())
    exporter = OtlpExporter(signals=["traces"], tracer_provider=provider)
    bus = EventBus()
    with bus.subscribe(exporter):
        emitter = bus.emitter(sample_correlation())
        for event in request_events():
            emitter.publish(event)
        bus.flush(5.0)
        (health,) = bus.health()
    exporter.close()
    assert health.errors == 1
    assert health.last_error == "RuntimeError: processor"


def test_no_provider_of_ours_becomes_global():
    before = (
        trace.get_tracer_provider(),
        metrics.get_meter_provider(),
        _logs.get_logger_provider(),
    )
    with OtlpExporter(endpoint=NOWHERE):
        pass
    after = (
        trace.get_tracer_provider(),
        metrics.get_meter_provider(),
        _logs.get_logger_provider(),
    )
    assert after == before


GLOBAL = """
import sys
sys.path[:0] = {path!r}
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from smallmind.testing import request_events
from smallmind_exporters.otlp import OtlpExporter
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
with OtlpExporter(signals=["traces"]) as exporter:
    for event in request_events():
        exporter.export(event)
print(sorted(span.name for span in spans.get_finished_spans()))
"""


def test_global_providers_of_the_host_are_found():
    script = GLOBAL.format(path=[str(TESTS)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "['decode', 'prefill', 'queue', 'text_completion sample']"
