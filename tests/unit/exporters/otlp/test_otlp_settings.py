"""The variables of the environment."""

from __future__ import annotations

import pytest

from otlp_receiver import RECEIVERS
from smallmind.testing import request_events
from smallmind_engine.telemetry.errors import ConfigError, MissingExtraError
from smallmind_exporters.otlp import OtlpExporter
from smallmind_exporters.otlp.settings import (
    Batching,
    Protocol,
    Signal,
    batching_of,
    emits_details,
    metric_interval_s,
    protocol_of,
    wanted_signals,
)

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
EMIT = "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Protocol.HTTP),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, Protocol.GRPC),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, Protocol.GRPC),
        ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, Protocol.HTTP),
    ],
)
def test_the_protocol_is_that_of_the_signal_then_of_all_then_http(environment, expected):
    assert protocol_of(Signal.TRACES, None, environment) is expected


def test_a_protocol_in_the_code_wins():
    assert (
        protocol_of(Signal.LOGS, "http", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) is Protocol.HTTP
    )


def test_a_protocol_that_is_not_spoken_is_an_error_that_names_the_others():
    with pytest.raises(ConfigError, match="'grpc', 'http/protobuf'"):
        protocol_of(Signal.TRACES, None, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"})


def test_the_sizes_of_batches_are_those_of_the_sdks_processors():
    assert batching_of(Signal.TRACES, {}) == Batching(2048, 512, 5.0)
    assert batching_of(Signal.LOGS, {}) == Batching(2048, 512, 1.0)
    changed = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "10",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5",
        "OTEL_BSP_SCHEDULE_DELAY": "250",
    }
    assert batching_of(Signal.TRACES, changed) == Batching(10, 5, 0.25)


@pytest.mark.parametrize("value", ["many", "-1", "0", ""])
def test_a_number_that_is_none_is_ignored_as_the_sdk_does(value):
    assert batching_of(Signal.TRACES, {"OTEL_BSP_MAX_QUEUE_SIZE": value}).capacity == 2048
    assert metric_interval_s({"OTEL_METRIC_EXPORT_INTERVAL": value}) == 60.0


def test_signals_may_be_switched_off_one_by_one():
    environment = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "otlp"}
    assert wanted_signals(environment) == (Signal.TRACES, Signal.LOGS)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({CAPTURE: "SPAN_ONLY"}, False),
        ({CAPTURE: "EVENT_ONLY"}, True),
        ({CAPTURE: "SPAN_AND_EVENT"}, True),
        ({EMIT: "true"}, True),
        ({CAPTURE: "EVENT_ONLY", EMIT: "false"}, False),
    ],
)
def test_the_event_of_a_request_follows_the_capture_unless_it_is_set(environment, expected):
    assert emits_details(environment) is expected


def test_a_disabled_sdk_has_no_interests_and_sends_nothing(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with OtlpExporter(endpoint=receiver.endpoint) as exporter:
        assert exporter.interests == 0
        for event in request_events():
            exporter.export(event)
    assert receiver.spans == []
    assert receiver.metrics == {}


@pytest.mark.parametrize("protocol", sorted(RECEIVERS))
def test_endpoint_and_protocol_may_come_from_the_environment(protocol, monkeypatch):
    with RECEIVERS[protocol]() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", received.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        with OtlpExporter() as exporter:
            for event in request_events():
                exporter.export(event)
            assert exporter.flush(5.0).complete
        assert len(received.spans) == 4
        assert received.metrics


def test_headers_of_the_environment_are_sent(receiver, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with OtlpExporter(endpoint=receiver.endpoint, signals=["traces"]) as exporter:
        for event in request_events():
            exporter.export(event)
    assert receiver.headers[0]["x-tenant"] == "blue"
    assert receiver.headers[0]["Content-Encoding"] == "gzip"
    assert len(receiver.spans) == 4


def test_without_its_packages_the_error_names_the_extra(monkeypatch):
    import sys

    for name in list(sys.modules):
        if name.startswith(("opentelemetry", "smallmind_exporters.otlp.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match=r"smallmind\[otlp\]"):
        OtlpExporter()
