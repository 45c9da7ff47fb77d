"""A small HTTP server for ``/metrics``: text or OpenMetrics, as the scraper asks for."""

from __future__ import annotations

import socket
import threading
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from smallmind_engine.telemetry import ReasonCode, renew_in_child
from smallmind_engine.telemetry.errors import ExporterError

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

STOP_POLL_S: Final = 0.1


class _Server(ThreadingMixIn, WSGIServer):
    """A slow scraper holds up neither the others nor the end of the process."""

    daemon_threads = True


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _SilentHandler(WSGIRequestHandler):
    timeout = 30.0  # of a connection that sends nothing

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has above
        """Scrapes are no news."""


class MetricsServer:
    """Serves the metrics of a registry until it is closed.

    A child process that is forked later does not serve: it lets go of the socket.

    Args:
        registry: what to serve.
        port: 0 for any free one.
        addr: address to listen on; the default is reached from this machine only.

    Raises:
        ExporterError: the address cannot be listened on.
    """

    def __init__(
        self, registry: CollectorRegistry, *, port: int = 0, addr: str = "127.0.0.1"
    ) -> None:
        from prometheus_client import make_wsgi_app

        try:
            self._server: WSGIServer = make_server(
                addr,
                port,
                make_wsgi_app(registry),
                server_class=_IPv6Server if ":" in addr else _Server,
                handler_class=_SilentHandler,
            )
        except (OSError, OverflowError) as error:
            raise ExporterError(
                ReasonCode.EXPORTER_UNAVAILABLE,
                f"cannot serve metrics on {addr} port {port}: {error}",
                hint="choose another port, or 0 for any free one",
                addr=addr,
                port=port,
            ) from error
        self._closed = False
        self._lock = threading.Lock()
        self.addr = addr
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(STOP_POLL_S,),
            name="smallmind-metrics",
            daemon=True,
        )
        self._thread.start()
        renew_in_child(self)

    @property
    def url(self) -> str:
        """Where to scrape."""
        host = f"[{self.addr}]" if ":" in self.addr else self.addr
        return f"http://{host}:{self.port}/metrics"

    def begin_in_child(self) -> None:
        """Begin anew, as in a forked child."""
        if not self._closed:
            self._closed = True
            self._server.socket.close()

    def close(self) -> None:
        """Stop serving. May be called more than once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
