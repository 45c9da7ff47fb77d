"""Shows the events of an engine to Prometheus.

Events are added up as they come, those of tokens in bursts; the text is made when scraped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from smallmind_engine.telemetry import Event, FlushResult, ReasonCode, Snapshot
from smallmind_engine.telemetry.errors import ClosedError, MissingExtraError
from smallmind_exporters.metrics import MetricStore, restore
from smallmind_exporters.prometheus.server import MetricsServer

if TYPE_CHECKING:
    from prometheus_client.registry import Collector, CollectorRegistry

    from smallmind_exporters.prometheus.collector import HealthSource

MULTIPROCESS_VARIABLES: Final = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
MULTIPROCESS_SUBFOLDER: Final = "smallmind"


class PrometheusExporter:
    """Metrics of one engine for Prometheus, in a registry of its own or one handed in.

    Thread-safe.

    Several engines may share a registry, each with an exporter of its own: their counters,
    histograms and gauges add up. What an engine counted stays after its exporter is closed, so
    that counters never go back; its gauges go. Metrics that are not ours are never touched.

    Late events of other threads after ``close`` are ignored; ``render`` goes on showing the last
    numbers.

    Several worker processes can be scraped at any one of them: give all of them the same
    ``multiprocess_dir``. Each writes its numbers there once a second, and each shows the sum.

    Args:
        registry: a ``prometheus_client`` registry to appear in; None for a private one.
        max_models: how many models are told apart; further ones are counted as ``_other``.
        health: how the exporters of the bus fare, such as ``EventBus.health``; read at each
            scrape. May be given later, with ``bind_health``.
        multiprocess_dir: a folder on a local disk that all workers share, empty at first. Where
            ``PROMETHEUS_MULTIPROC_DIR`` names a folder for the multi-process mode of
            ``prometheus_client``, its subfolder ``smallmind`` is taken.

    Raises:
        MissingExtraError: ``prometheus-client`` is not installed.
        ExporterError: the folder cannot be used, or the registry has metrics of our names.
    """

    name: Final = "prometheus"
    inline: Final = True

    def __init__(
        self,
        *,
        registry: CollectorRegistry | None = None,
        max_models: int | None = None,
        health: HealthSource | None = None,
        multiprocess_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        try:
            from prometheus_client.registry import CollectorRegistry

            from smallmind_exporters.prometheus.collector import collector_of
        except ModuleNotFoundError as error:
            raise MissingExtraError("prometheus", "the Prometheus exporter") from error
        self._store = MetricStore(max_models=max_models)
        self._registry = CollectorRegistry() if registry is None else registry
        self._collector = collector_of(self._registry)
        folder = _shared_folder(multiprocess_dir)
        if folder is not None:
            self._collector.share(folder)
        self._collector.attach(self._store)
        self._servers: list[MetricsServer] = []
        self._closed = False
        self.backlog: Final = self._store.backlog
        self.interests = self._store.interests
        if health is not None:
            self.bind_health(health)

    @property
    def registry(self) -> CollectorRegistry:
        """The registry that the metrics appear in, to mount in a server of your own."""
        return self._registry

    @property
    def collector(self) -> Collector:
        """What shows the metrics, to register in a registry that your server makes at a scrape."""
        return self._collector

    def bind_health(self, health: HealthSource) -> None:
        """Show errors and drops of the exporters of a bus: pass its ``EventBus.health``.

        A second source is shown besides the first, for an exporter on two buses.
        """
        self._collector.bind_health(self._store, health)

    def export(self, event: Event, /) -> None:
        """Add one event up."""
        if not self._closed:
            self._store.take(event)

    def restore(self, snapshot: Snapshot, /) -> None:
        """Begin with the numbers of a log's snapshot, before the first event."""
        restore(self._store, snapshot)

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """Nothing is held back: every event is in the next scrape, of other processes too.

        Raises:
            OSError: the folder that the processes share cannot be written to.
        """
        self._collector.write()
        return FlushResult(delivered=self._store.taken)

    def render(self, *, openmetrics: bool = False) -> bytes:
        """The metrics of the registry as a scraper would get them now.

        Args:
            openmetrics: OpenMetrics 1.0 with exemplars, rather than the text format 0.0.4.
        """
        from prometheus_client.exposition import choose_encoder

        encode, _ = choose_encoder("application/openmetrics-text" if openmetrics else "")
        return bytes(encode(self._registry))

    def make_wsgi_app(self) -> Callable[..., Any]:
        """The metrics as a WSGI application, to mount in a server of your own.

        Text, or OpenMetrics with exemplars when the scraper asks for it; compressed likewise.
        """
        from prometheus_client import make_wsgi_app

        app: Callable[..., Any] = make_wsgi_app(self._registry)
        return app

    def make_asgi_app(self) -> Callable[..., Any]:
        """The metrics as an ASGI application: ``app.mount("/metrics", exporter.make_asgi_app())``.

        Text, or OpenMetrics with exemplars when the scraper asks for it; compressed likewise.
        """
        from prometheus_client import make_asgi_app

        app: Callable[..., Any] = make_asgi_app(self._registry)
        return app

    def start_http_server(self, port: int = 0, addr: str = "127.0.0.1") -> MetricsServer:
        """Serve ``/metrics`` from a thread, until the server or this exporter is closed.

        Args:
            port: 0 for any free one; see ``MetricsServer.port``.
            addr: address to listen on; by default reached from this machine only.

        Raises:
            ClosedError: the exporter is closed.
            ExporterError: the address cannot be listened on.
        """
        if self._closed:
            raise ClosedError(
                ReasonCode.CLOSED,
                "a closed Prometheus exporter cannot start a server",
                hint="start it before the exporter is closed",
            )
        server = MetricsServer(self._registry, port=port, addr=addr)
        self._servers.append(server)
        return server

    def close(self) -> None:
        """Stop the servers and drop the gauges; what was counted stays. May be called again."""
        self._closed = True
        self._store.stop_gathering()
        while self._servers:
            self._servers.pop().close()
        self._collector.detach(self._store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _shared_folder(given: str | os.PathLike[str] | None) -> Path | None:
    if given is not None:
        return Path(given).absolute()
    for variable in MULTIPROCESS_VARIABLES:
        named = os.environ.get(variable)
        if named:
            return Path(named).absolute() / MULTIPROCESS_SUBFOLDER
    return None
