"""Connects each signal: to the host's provider when it has one, else to a provider of our own.

Nothing here is ever made global.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import Logger, LoggerProvider
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.sdk._logs import LoggerProvider as SdkLoggerProvider
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer, TracerProvider

from smallmind_engine.telemetry import Exporter
from smallmind_exporters import conventions
from smallmind_exporters.otlp.legs import HostLeg, Leg, OwnLeg
from smallmind_exporters.otlp.metering import MetricsLeg
from smallmind_exporters.otlp.settings import (
    Protocol,
    Signal,
    batching_of,
    metric_interval_s,
    protocol_of,
)

SCOPE: Final = "smallmind"
EVENTS_LIKE_A_SPAN: Final = 8
_RESOURCE_VARIABLE: Final = "OTEL_RESOURCE_ATTRIBUTES"
_EVENT_LIMIT_VARIABLE: Final = "OTEL_SPAN_EVENT_COUNT_LIMIT"
_PACKAGES: Final = {
    Protocol.GRPC: "opentelemetry.exporter.otlp.proto.grpc",
    Protocol.HTTP: "opentelemetry.exporter.otlp.proto.http",
}
_CLASSES: Final = {
    Signal.TRACES: ("trace_exporter", "OTLPSpanExporter"),
    Signal.METRICS: ("metric_exporter", "OTLPMetricExporter"),
    Signal.LOGS: ("_log_exporter", "OTLPLogExporter"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where our own providers send to; what is None comes from the ``OTEL_*`` variables.

    Attributes:
        endpoint: base URL of the receiver, such as ``http://collector:4318``.
        protocol: ``grpc`` or ``http/protobuf``.
        headers: sent with each export.
        timeout_s: longest time of one export, its retries included.
        resource: attributes of the resource, besides those of the environment.
        max_events: events that one span of ours may have.
    """

    endpoint: str | None = None
    protocol: str | None = None
    headers: dict[str, str] | None = None
    timeout_s: float | None = None
    resource: dict[str, str] | None = None
    max_events: int = 0


def our_resource(extra: dict[str, str] | None) -> Resource:
    """The resource of our own providers.

    Each exporter is a service instance of its own, because two with the same name would send two
    streams of the same metric, and a receiver would take the one for the other's continuation.
    """
    ours = dict(extra or {})
    if SERVICE_INSTANCE_ID not in os.environ.get(_RESOURCE_VARIABLE, ""):
        ours.setdefault(SERVICE_INSTANCE_ID, str(uuid.uuid4()))
    return Resource.create(dict(ours))


def sdk_exporter(signal: Signal, connection: Connection) -> Any:
    """The SDK's own OTLP exporter, which reads the rest of its settings from the environment."""
    protocol = protocol_of(signal, connection.protocol)
    module, name = _CLASSES[signal]
    make = getattr(import_module(f"{_PACKAGES[protocol]}.{module}"), name)
    chosen: dict[str, Any] = {"headers": connection.headers, "timeout": connection.timeout_s}
    endpoint = connection.endpoint
    if endpoint is not None:
        if protocol is Protocol.HTTP:
            endpoint = f"{endpoint.rstrip('/')}/v1/{signal}"
        chosen["endpoint"] = endpoint
    if protocol is Protocol.HTTP:
        from smallmind_exporters.otlp.answers import checking_session

        chosen["session"] = checking_session(signal)
    return make(**{key: value for key, value in chosen.items() if value is not None})


class _SpansTo(SpanProcessor):
    def __init__(self, leg: OwnLeg[ReadableSpan]) -> None:
        self._leg = leg

    def on_end(self, span: ReadableSpan) -> None:
        self._leg.made(span)


class _LogsTo(LogRecordProcessor):
    def __init__(self, leg: OwnLeg[ReadableLogRecord], resource: Resource) -> None:
        self._leg = leg
        self._resource = resource

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self._leg.made(
            ReadableLogRecord(
                log_record=log_record.log_record,
                resource=self._resource,
                instrumentation_scope=log_record.instrumentation_scope,
                limits=log_record.limits,
            )
        )

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - nothing is held
        return True


def traces(
    given: TracerProvider | None, connection: Connection, resource: Resource, owner: Exporter
) -> tuple[Tracer, Leg]:
    """A tracer, and the way that its spans take."""
    host = given or _set(trace.get_tracer_provider())
    if host is not None:
        return _tracer(host), HostLeg(Signal.TRACES, host, owner)
    exporter: SpanExporter = sdk_exporter(Signal.TRACES, connection)

    def export(spans: Sequence[ReadableSpan]) -> bool:
        return exporter.export(spans) is SpanExportResult.SUCCESS

    leg = OwnLeg(
        Signal.TRACES, export, exporter.shutdown, batching_of(Signal.TRACES), owner, size=_size
    )
    limits = SpanLimits()
    if _EVENT_LIMIT_VARIABLE not in os.environ:
        limits = SpanLimits(max_events=connection.max_events)
    provider = SdkTracerProvider(resource=resource, span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(_SpansTo(leg))
    return _tracer(provider), leg


def logs(
    given: LoggerProvider | None, connection: Connection, resource: Resource, owner: Exporter
) -> tuple[Logger, Leg]:
    """A logger, and the way that its records take."""
    host = given or _set(_logs.get_logger_provider())
    if host is not None:
        return _logger(host), HostLeg(Signal.LOGS, host, owner)
    exporter: LogRecordExporter = sdk_exporter(Signal.LOGS, connection)

    def export(records: Sequence[ReadableLogRecord]) -> bool:
        return exporter.export(records) is LogRecordExportResult.SUCCESS

    leg = OwnLeg(Signal.LOGS, export, exporter.shutdown, batching_of(Signal.LOGS), owner)
    provider = SdkLoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(_LogsTo(leg, resource))
    return _logger(provider), leg


def meters(
    given: MeterProvider | None, connection: Connection, resource: Resource, owner: Exporter
) -> tuple[MeterProvider, Meter, HostLeg | MetricsLeg]:
    """A provider with a meter of ours, and the way that its metrics take."""
    host = given or _set(metrics.get_meter_provider())
    if host is not None:
        return host, _meter(host), HostLeg(Signal.METRICS, host, owner)
    exporter: MetricExporter = sdk_exporter(Signal.METRICS, connection)
    leg = MetricsLeg(exporter, metric_interval_s(), owner)
    provider = SdkMeterProvider([leg.reader], resource=resource, shutdown_on_exit=False)
    return provider, _meter(provider), leg


def _size(span: ReadableSpan) -> int:
    """A span of ours with its attributes takes about the bytes of eight events of tokens."""
    return 1 + len(span.events) // EVENTS_LIKE_A_SPAN


def _set(provider: Any) -> Any:
    """A global provider, if the host has set one; the API answers with a stand-in otherwise."""
    return None if type(provider).__name__.lstrip("_").startswith("Proxy") else provider


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(SCOPE)
    except PackageNotFoundError:  # pragma: no cover - run from a source tree
        return ""


def _tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer(SCOPE, _version(), conventions.SCHEMA_URL)


def _meter(provider: MeterProvider) -> Meter:
    return provider.get_meter(SCOPE, _version(), conventions.SCHEMA_URL)


def _logger(provider: LoggerProvider) -> Logger:
    return provider.get_logger(SCOPE, _version(), conventions.SCHEMA_URL)
