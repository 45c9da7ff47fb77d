"""The small HTTP server of the Prometheus exporter, over real sockets."""

from __future__ import annotations

import gzip
import threading
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from smallmind_engine.telemetry.errors import ExporterError
from smallmind_exporters.prometheus import PrometheusExporter
from telemetry_events import TRACE_ID, headers, request

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def exporter():
    with PrometheusExporter() as made:
        for event in request(headers()):
            made.export(event)
        yield made


def get(url, **header):
    with urlopen(Request(url, headers=header), timeout=5) as response:  # noqa: S310 - our own http server
        return response.headers, response.read()


def test_plain_text_is_served_by_default(exporter):
    with exporter.start_http_server() as server:
        header, body = get(server.url)
    assert header["Content-Type"].startswith("text/plain")
    assert body == exporter.render()


def test_openmetrics_with_exemplars_is_served_to_who_accepts_it(exporter):
    with exporter.start_http_server() as server:
        header, body = get(server.url, Accept=OPENMETRICS)
    assert header["Content-Type"].startswith("application/openmetrics-text")
    assert body == exporter.render(openmetrics=True)
    assert TRACE_ID.encode() in body


def test_compression_is_offered(exporter):
    with exporter.start_http_server() as server:
        header, body = get(server.url, **{"Accept-Encoding": "gzip"})
    assert header["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == exporter.render()


def test_the_handle_tells_where_it_listens(exporter):
    with exporter.start_http_server() as server:
        assert server.port > 0
        assert server.addr == "127.0.0.1"
        assert server.url == f"http://127.0.0.1:{server.port}/metrics"


def test_a_closed_server_no_longer_answers_and_leaves_no_thread(exporter):
    before = threading.active_count()
    server = exporter.start_http_server()
    server.close()
    server.close()
    assert threading.active_count() == before
    with pytest.raises(URLError):
        urlopen(server.url, timeout=5)  # noqa: S310 - our own http server


def test_closing_the_exporter_closes_its_servers(exporter):
    servers = [exporter.start_http_server(), exporter.start_http_server()]
    exporter.close()
    for server in servers:
        with pytest.raises(URLError):
            urlopen(server.url, timeout=5)  # noqa: S310 - our own http server


def test_a_port_that_is_taken_is_told(exporter):
    with (
        exporter.start_http_server() as server,
        pytest.raises(ExporterError, match=rf"port {server.port}.*choose another port"),
    ):
        exporter.start_http_server(server.port)


def test_a_port_that_cannot_be_is_told(exporter):
    with pytest.raises(ExporterError, match="port 70000"):
        exporter.start_http_server(70_000)


def test_an_address_that_cannot_be_is_told(exporter):
    with pytest.raises(ExporterError, match=r"192\.0\.2\.1"):
        exporter.start_http_server(addr="192.0.2.1")


def test_an_ipv6_address_is_bracketed_in_the_url(exporter):
    try:
        server = exporter.start_http_server(addr="::1")
    except ExporterError:
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        assert server.url == f"http://[::1]:{server.port}/metrics"
        assert get(server.url)[1] == exporter.render()
