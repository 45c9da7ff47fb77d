"""Reads what an HTTP receiver answers: the SDK takes every 200 for a delivery.

A receiver may answer 200 and say in the body how many records it refused, and a proxy may answer
200 with a page that asks for a password. Both are losses.
"""

from __future__ import annotations

import os
from typing import Any, Final

import requests
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from smallmind_exporters.otlp.settings import Signal

REFUSED: Final = 422
_ANSWERS: Final[dict[Signal, tuple[Any, str]]] = {
    Signal.TRACES: (ExportTraceServiceResponse, "rejected_spans"),
    Signal.METRICS: (ExportMetricsServiceResponse, "rejected_data_points"),
    Signal.LOGS: (ExportLogsServiceResponse, "rejected_log_records"),
}
_CREDENTIALS: Final = "OTEL_PYTHON_EXPORTER_OTLP_"


def checking_session(signal: Signal) -> requests.Session | None:
    """A session whose answers are refusals when their bodies say so.

    None when the environment names a session of its own for credentials: that one is the host's.
    """
    if any(name.startswith(_CREDENTIALS) and "CREDENTIAL" in name for name in os.environ):
        return None

    def check(response: requests.Response, *_: Any, **__: Any) -> None:
        refusal = refusal_in(signal, response)
        if refusal:
            response.status_code, response.reason = REFUSED, refusal

    session = requests.Session()
    session.hooks["response"].append(check)
    return session


def refusal_in(signal: Signal, response: requests.Response) -> str:
    """Why an answer that looks like a success is none; empty when it is one."""
    if not response.ok:
        return ""
    content_type = response.headers.get("Content-Type", "")
    if content_type.startswith("text/html"):
        return "a page of HTML, so no receiver of OTLP"
    if not content_type.startswith("application/x-protobuf"):
        return ""
    answer_type, field = _ANSWERS[signal]
    try:
        partial = answer_type.FromString(response.content).partial_success
    except DecodeError:
        return "an answer that is no protobuf"
    refused = getattr(partial, field)
    return f"{refused} {field}: {partial.error_message}" if refused else ""
