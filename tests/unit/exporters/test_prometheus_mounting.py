"""The metrics as WSGI and ASGI applications, mounted in a host's own server."""

from __future__ import annotations

import asyncio
import gzip
import threading
from urllib.request import Request, urlopen
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import shift_path_info
from wsgiref.validate import validator

import pytest

from smallmind_exporters.prometheus import PrometheusExporter
from telemetry_events import TRACE_ID, headers, request

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def exporter():
    with PrometheusExporter() as made:
        for event in request(headers()):
            made.export(event)
        yield made


class Silent(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def fetch(url, **header):
    with urlopen(Request(url, headers=header), timeout=5) as answer:  # noqa: S310 - our own server
        return answer.read()


def test_a_wsgi_host_serves_it_beside_its_own_pages(exporter):
    metrics = validator(exporter.make_wsgi_app())

    def host(environ, start_response):
        if shift_path_info(environ) == "metrics":
            return metrics(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"the host's own page"]

    with make_server("127.0.0.1", 0, host, handler_class=Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        base = f"http://127.0.0.1:{server.server_port}"
        assert fetch(f"{base}/metrics") == exporter.render()
        assert fetch(f"{base}/metrics", Accept=OPENMETRICS) == exporter.render(openmetrics=True)
        assert fetch(f"{base}/") == b"the host's own page"
        server.shutdown()
        thread.join()


def ask(app, *header, path="/"):
    """One GET request over the ASGI protocol; answers status, headers and body."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "root_path": "/metrics",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in header],
    }
    asyncio.run(app(scope, receive, send))
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def test_an_asgi_host_gets_text(exporter):
    status, header, body = ask(exporter.make_asgi_app())
    assert status == 200
    assert header[b"Content-Type"].startswith(b"text/plain")
    assert body == exporter.render()


def test_an_asgi_host_gets_openmetrics_with_exemplars_compressed(exporter):
    app = exporter.make_asgi_app()
    status, header, body = ask(app, ("Accept", OPENMETRICS), ("Accept-Encoding", "gzip"))
    assert status == 200
    assert header[b"Content-Encoding"] == b"gzip"
    assert gzip.decompress(body) == exporter.render(openmetrics=True)
    assert TRACE_ID.encode() in gzip.decompress(body)


def test_a_closed_exporter_still_shows_what_was_counted(exporter):
    app = exporter.make_asgi_app()
    exporter.close()
    assert b'smallmind_generated_tokens_total{model="tiny"} 4.0' in ask(app)[2]
