"""Metrics: instruments from the table, exact totals, bounded labels, exemplars."""

from __future__ import annotations

import math

import pytest

from otlp_receiver import attributes, points, total
from smallmind_engine.telemetry import ExporterHealth, StopReason, TokenGenerated
from smallmind_exporters.metrics import FAMILIES, Counter, Gauge, Histogram, MetricKind, MetricStore
from smallmind_exporters.metrics.opentelemetry import otel_attribute, otel_name, otel_unit
from smallmind_exporters.otlp import OtlpExporter
from telemetry_events import (
    MODEL,
    SPAN_ID,
    TRACE_ID,
    correlation,
    every_kind,
    headers,
    request,
)

KINDS = {
    MetricKind.COUNTER: "sum",
    MetricKind.GAUGE: ("sum", "gauge"),
    MetricKind.INFO: "gauge",
    MetricKind.HISTOGRAM: "histogram",
}


def exemplars(received):
    """Each export has those since the one before."""
    return [
        exemplar
        for export in received.requests["metrics"]
        for resource in export.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "gen_ai.server.time_to_first_token"
        for point in metric.histogram.data_points
        for exemplar in point.exemplars
    ]


def workload():
    """A thousand requests of several models, with every way to end."""
    header = headers()
    yield from every_kind(header)
    reasons = list(StopReason)
    for number in range(250):
        yield from request(
            headers(correlation(f"req-{number}"), first=1000 * (number + 1)),
            model=f"model-{number % 3}",
            reason=reasons[number % len(reasons)],
            tokens=number % 7,
            streaming=bool(number % 2),
            operation=("chat", "text_completion")[number % 2],
        )


def test_every_family_of_the_table_arrives_with_its_unit_and_kind(send):
    received = send(every_kind(headers()), detail="kernel")
    for family in FAMILIES:
        if not (family.readings or family.stage):
            continue  # of the bus itself, or of several processes
        metric = received.metrics[otel_name(family)]
        assert metric.unit == otel_unit(family)
        assert metric.description == family.help
        assert metric.WhichOneof("data") in KINDS[family.kind]


def test_every_number_equals_the_one_that_prometheus_shows(send):
    """Both are made from the same events; they agree to the last one."""
    store = MetricStore()
    events = list(workload())
    for event in events:
        store.take(event)
    received = send(events, detail="kernel")
    for family, rows in store.snapshot().items():
        if not rows or family.health is not None:
            continue
        found = points(received.metrics[otel_name(family)])
        names = [otel_attribute(label) for label in family.labels]
        if family.kind is MetricKind.HISTOGRAM:
            for values, series in rows.items():
                wanted = dict(zip(names, values, strict=True))
                assert isinstance(series, Histogram)
                counted = sum(
                    n for labels, n in found.items() if wanted.items() <= dict(labels).items()
                )
                assert counted == sum(series.counts), family.name
            continue
        for values, series in rows.items():
            assert isinstance(series, Counter | Gauge)
            key = tuple(sorted(zip(names, values, strict=True)))
            assert found[key] == series.value, (family.name, key)


def test_histograms_have_the_buckets_of_the_table(send):
    received = send(request(headers()))
    for family in FAMILIES:
        if family.kind is MetricKind.HISTOGRAM and otel_name(family) in received.metrics:
            (point, *_) = received.metrics[otel_name(family)].histogram.data_points
            assert tuple(point.explicit_bounds) == family.buckets


def test_the_clients_duration_is_there_because_the_conventions_require_it(send):
    received = send(request(headers()))
    client = received.metrics["gen_ai.client.operation.duration"]
    server = received.metrics["gen_ai.server.request.duration"]
    assert points(client) == points(server)
    (labels,) = points(client)
    assert dict(labels) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "smallmind",
        "gen_ai.request.model": MODEL,
        "smallmind.status": "completed",
    }


def test_a_failed_request_has_its_error_type_on_durations_and_no_time_to_first_token(send):
    received = send(request(headers(), reason=StopReason.ERROR))
    duration = received.metrics["gen_ai.server.request.duration"]
    assert total(duration, error__type="InferenceError") == 1
    assert "gen_ai.server.time_to_first_token" not in received.metrics


def test_exemplars_name_the_trace_of_the_request(send):
    received = send(request(headers(correlation(has_parent=False))))
    (exemplar,) = exemplars(received)
    assert (exemplar.trace_id.hex(), exemplar.span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert exemplar.as_double == 0.328125


def test_an_unsampled_request_leaves_no_exemplar(send):
    received = send(request(headers(correlation(trace_flags=0))))
    assert exemplars(received) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_reading_that_is_no_number_poisons_no_sum(send, value):
    ids = correlation()
    received = send([*request(headers(ids)), TokenGenerated(99, 99, ids, MODEL, 1, value, value)])
    (point,) = received.metrics["smallmind.inter_token"].histogram.data_points
    assert point.count == 3
    assert math.isfinite(point.sum)


def test_models_beyond_the_limit_are_counted_together(send):
    events = [
        event
        for number in range(5)
        for event in request(headers(f"req-{number}"), model=f"m{number}")
    ]
    received = send(events, max_models=2)
    for name in ("smallmind.generated_tokens", "gen_ai.server.request.duration"):
        models = {dict(labels)["gen_ai.request.model"] for labels in points(received.metrics[name])}
        assert models == {"m0", "m1", "_other"}


def test_no_label_of_a_metric_is_an_id(send):
    received = send(workload())
    seen = str([points(metric) for metric in received.metrics.values()])
    assert "req-" not in seen
    assert TRACE_ID not in seen


def test_health_of_the_exporters_is_shown(receiver):
    with OtlpExporter(endpoint=receiver.endpoint) as exporter:
        exporter.bind_health(
            lambda: (ExporterHealth("slow", attached=True, errors=3, dropped=7, last_error=""),)
        )
        for event in request(headers()):
            exporter.export(event)
        exporter.flush(5.0)
    dropped = receiver.metrics["smallmind.telemetry.events_dropped"]
    assert points(dropped) == {(("smallmind.exporter", "slow"),): 7}
    errors = receiver.metrics["smallmind.telemetry.exporter_errors"]
    assert points(errors) == {(("smallmind.exporter", "slow"),): 3}


def test_a_second_export_tells_the_same_totals_again(receiver):
    """Sums are cumulative, so a lost export loses nothing."""
    with OtlpExporter(endpoint=receiver.endpoint) as exporter:
        for event in request(headers()):
            exporter.export(event)
        exporter.flush(5.0)
        exporter.flush(5.0)
    exports = receiver.requests["metrics"]
    assert len(exports) >= 2
    assert total(receiver.metrics["smallmind.generated_tokens"]) == 4
    assert total(receiver.metrics["smallmind.inter_token"]) == 3


def test_histograms_of_tokens_that_no_instrument_recorded_look_like_the_others(send):
    """They are made from the store, because an instrument is slow; a receiver cannot tell."""
    received = send(request(headers(), tokens=5))
    (ours,) = received.metrics["smallmind.inter_token"].histogram.data_points
    (other,) = received.metrics["smallmind.decode"].histogram.data_points
    assert (ours.count, ours.sum) == (4, 4 * 0.03125)
    assert sum(ours.bucket_counts) == 4
    assert len(ours.bucket_counts) == len(ours.explicit_bounds) + 1
    assert not ours.HasField("min")
    assert attributes(ours.attributes) == attributes(other.attributes)
    assert 0 < ours.start_time_unix_nano <= ours.time_unix_nano
    temporality = received.metrics["smallmind.inter_token"].histogram.aggregation_temporality
    assert temporality == received.metrics["smallmind.decode"].histogram.aggregation_temporality


def test_deltas_are_sent_when_the_environment_prefers_them(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    with OtlpExporter(endpoint=receiver.endpoint) as exporter:
        for turn in range(2):
            for event in request(headers(f"req-{turn}")):
                exporter.export(event)
            exporter.flush(5.0)
            assert total(receiver.metrics["smallmind.generated_tokens"]) == 4
            assert total(receiver.metrics["smallmind.inter_token"]) == 3


def test_attributes_of_the_resource_are_those_of_environment_and_caller(send, monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    received = send(request(headers()), resource={"service.version": "3"})
    assert len(received.resources) >= 2
    for found in received.resources:
        assert found["service.name"] == "shop"
        assert found["service.version"] == "3"
        assert found["deployment.environment.name"] == "test"
    assert len({found["service.instance.id"] for found in received.resources}) == 1


def test_two_exporters_of_our_own_are_two_instances_of_the_service(receiver):
    """One name for two streams would make a receiver take one for the other's continuation."""
    for turn in range(2):
        with OtlpExporter(endpoint=receiver.endpoint, signals=["metrics"]) as exporter:
            for event in request(headers(f"req-{turn}")):
                exporter.export(event)
            exporter.flush(5.0)
    assert len({found["service.instance.id"] for found in receiver.resources}) == 2


def test_an_instance_that_the_environment_names_is_kept(send, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7")
    received = send(request(headers()))
    assert {found["service.instance.id"] for found in received.resources} == {"pod-7"}


def test_our_scope_names_the_version_of_the_conventions(send):
    received = send(request(headers()))
    scopes = [
        scope
        for export in received.requests["metrics"]
        for resource in export.resource_metrics
        for scope in resource.scope_metrics
    ]
    assert {scope.scope.name for scope in scopes} == {"smallmind"}
    assert all(scope.schema_url.startswith("https://opentelemetry.io/schemas/") for scope in scopes)
    assert attributes(scopes[0].scope.attributes) == {}
