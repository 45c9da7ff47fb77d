"""OTLP receivers on loopback, over HTTP and gRPC, that keep what they are sent.

They answer with the official protobuf classes. ``behaviour`` changes what they do with a request:
accept (the default), refuse, hang, or answer with garbage, a page, nonsense or a part of it.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

SERVICES = {
    "traces": (
        trace_service_pb2.ExportTraceServiceRequest,
        trace_service_pb2.ExportTraceServiceResponse,
    ),
    "metrics": (
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
    ),
    "logs": (
        logs_service_pb2.ExportLogsServiceRequest,
        logs_service_pb2.ExportLogsServiceResponse,
    ),
}


PROTOBUF = "application/x-protobuf"
# Behaviours of the HTTP receiver that are one fixed answer.
ANSWERS = {
    "refuse": (400, b"no"),
    "page": (200, b"<html>Please log in</html>", "text/html; charset=utf-8"),
    "nonsense": (200, b"\xff\xff\xff"),
    "plain": (200, b"OK", "text/plain"),
}


@dataclass
class Received:
    """What came in, by signal, as protobuf messages in order."""

    requests: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in SERVICES})
    headers: list[dict[str, str]] = field(default_factory=list)
    behaviour: str = "accept"
    release: threading.Event = field(default_factory=threading.Event)
    endpoint: str = ""

    @property
    def resources(self) -> list[dict[str, Any]]:
        return [
            attributes(group.resource.attributes)
            for signal, groups in (
                ("traces", "resource_spans"),
                ("metrics", "resource_metrics"),
                ("logs", "resource_logs"),
            )
            for request in self.requests[signal]
            for group in getattr(request, groups)
        ]

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests["traces"]
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def logs(self) -> list[Any]:
        return [
            record
            for request in self.requests["logs"]
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    @property
    def metrics(self) -> dict[str, Any]:
        """The last state of each metric that was sent, by name."""
        return {
            metric.name: metric
            for request in self.requests["metrics"]
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def span(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found


def attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(value_of(item) for item in value.array_value.values)
    return getattr(value, kind) if kind else None


def points(metric: Any) -> dict[tuple[tuple[str, Any], ...], float]:
    """The numbers of a sum or gauge by attributes; the counts of a histogram."""
    kind = metric.WhichOneof("data")
    return {
        tuple(sorted(attributes(point.attributes).items())): (
            point.count if kind == "histogram" else point.as_int or point.as_double
        )
        for point in getattr(metric, kind).data_points
    }


def total(metric: Any, **wanted: Any) -> float:
    """The sum over the points that have the wanted attributes, dots written as double lines."""
    chosen = {key.replace("__", "."): value for key, value in wanted.items()}
    return sum(
        number
        for labels, number in points(metric).items()
        if chosen.items() <= dict(labels).items()
    )


@contextmanager
def http_receiver() -> Iterator[Received]:
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            signal = self.path.removeprefix("/v1/")
            request_type, response_type = SERVICES[signal]
            if received.behaviour == "hang":
                received.release.wait(30)
            if received.behaviour in ANSWERS:
                self._answer(*ANSWERS[received.behaviour])
                return
            if received.behaviour == "partial":
                self._answer(200, _partly_refused(response_type))
                return
            if received.behaviour == "garbage":
                self.wfile.write(b"\x00\xff this is no HTTP \r\n\r\n")
                self.close_connection = True
                return
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            received.headers.append(dict(self.headers))
            received.requests[signal].append(request_type.FromString(body))
            self._answer(200, response_type().SerializeToString())

        def _answer(self, status: int, body: bytes, content_type: str = PROTOBUF) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that went away while its request hung is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    received.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield received
    finally:
        received.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _partly_refused(response_type: Any) -> bytes:
    answer = response_type()
    (field, *_) = answer.partial_success.DESCRIPTOR.fields
    setattr(answer.partial_success, field.name, 1)
    answer.partial_success.error_message = "too old"
    return answer.SerializeToString()


@contextmanager
def grpc_receiver() -> Iterator[Received]:
    received = Received()

    def taking(signal: str) -> Any:
        _, response_type = SERVICES[signal]

        def export(request: Any, context: grpc.ServicerContext) -> Any:
            if received.behaviour == "hang":
                received.release.wait(30)
            if received.behaviour == "refuse":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
            received.requests[signal].append(request)
            return response_type()

        return export

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    for signal, module, name in (
        ("traces", trace_service_pb2_grpc, "TraceService"),
        ("metrics", metrics_service_pb2_grpc, "MetricsService"),
        ("logs", logs_service_pb2_grpc, "LogsService"),
    ):
        servicer = type(name, (getattr(module, f"{name}Servicer"),), {})()
        servicer.Export = taking(signal)
        getattr(module, f"add_{name}Servicer_to_server")(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    received.endpoint = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield received
    finally:
        received.release.set()
        server.stop(None).wait()


RECEIVERS = {"http/protobuf": http_receiver, "grpc": grpc_receiver}
