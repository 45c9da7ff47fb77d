"""Log events as OpenTelemetry log records, with the ids of their request."""

from __future__ import annotations

from typing import Final

from opentelemetry._logs import Logger, SeverityNumber

from smallmind_engine.telemetry import ANCHOR, LogLevel, RuntimeLogEvent
from smallmind_engine.telemetry.events import InferenceStopped
from smallmind_exporters import conventions
from smallmind_exporters.otlp.attributes import (
    OUTPUT_TOKEN_IDS,
    clean_text,
    cleaned,
    request_attributes,
)
from smallmind_exporters.otlp.identity import context_of
from smallmind_exporters.otlp.records import Record
from smallmind_exporters.otlp.spans import token_ids

SEVERITIES: Final = {
    LogLevel.TRACE: SeverityNumber.TRACE,
    LogLevel.DEBUG: SeverityNumber.DEBUG,
    LogLevel.INFO: SeverityNumber.INFO,
    LogLevel.WARN: SeverityNumber.WARN,
    LogLevel.ERROR: SeverityNumber.ERROR,
}


def emit_log(logger: Logger, event: RuntimeLogEvent) -> None:
    """Give one log event to an OpenTelemetry logger."""
    ids = event.correlation
    attributes = {
        "smallmind.component": event.component,
        "smallmind.request_id": ids.request_id,
        conventions.CONVERSATION_ID: ids.session_id,
        "smallmind.reason": None if event.reason is None else event.reason.value,
        conventions.ERROR_TYPE: event.error,
        **{f"smallmind.{clean_text(key)}": value for key, value in event.properties.items()},
    }
    wall_ns = ANCHOR.to_wall_ns(event.time_ns)
    logger.emit(
        timestamp=wall_ns,
        observed_timestamp=wall_ns,
        context=context_of(ids),
        severity_number=SEVERITIES[event.level],
        severity_text=event.level.name,
        body=clean_text(event.message),
        attributes=cleaned(attributes),
    )


def emit_details(logger: Logger, record: Record, stop: InferenceStopped, *, content: bool) -> None:
    """Give the one event of a request that the conventions know, when the host asked for it."""
    attributes = {
        **request_attributes(record, stop, at_start=True),
        **request_attributes(record, stop, at_start=False),
    }
    ids = token_ids(record.tokens)
    if content and ids:
        attributes[OUTPUT_TOKEN_IDS] = ids
    wall_ns = ANCHOR.to_wall_ns(stop.time_ns)
    logger.emit(
        timestamp=wall_ns,
        observed_timestamp=wall_ns,
        context=context_of(record.correlation),
        severity_number=SeverityNumber.INFO,
        severity_text=LogLevel.INFO.name,
        attributes=attributes,
        event_name=conventions.INFERENCE_DETAILS_EVENT,
    )
