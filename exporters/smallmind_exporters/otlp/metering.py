"""Collects our own metrics at intervals and when flushed, and knows what the receiver confirmed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
)

from smallmind_engine.telemetry import Exporter
from smallmind_exporters.otlp.legs import suppress_instrumentation
from smallmind_exporters.otlp.outbox import Counts
from smallmind_exporters.otlp.ready_made import takes_ready_made
from smallmind_exporters.otlp.settings import Signal
from smallmind_exporters.otlp.worker import Done, Worker

COLLECT_TIMEOUT_MS: Final = 10_000


class _Reader(MetricReader):
    """Keeps the last collection, for the one who asked for it."""

    def __init__(self, exporter: MetricExporter) -> None:
        super().__init__(
            preferred_temporality=exporter._preferred_temporality,  # noqa: SLF001 - as the SDK's own reader does
            preferred_aggregation=exporter._preferred_aggregation,  # noqa: SLF001 - the same
        )
        self.collected: MetricsData | None = None

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = 10_000,  # noqa: ARG002 - the SDK's signature
        **kwargs: Any,  # noqa: ARG002 - the same
    ) -> None:
        self.collected = metrics_data

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        pass


class MetricsLeg:
    """Sends metrics of our own provider from a thread of its own.

    Sums are cumulative unless the environment asks for deltas, so an export that failed loses
    nothing: the next one carries it. What was lost for good is then only what is still
    unconfirmed at the end.

    Args:
        exporter: the SDK's.
        interval_s: seconds between two exports.
        owner: the exporter this belongs to.

    Attributes:
        taken: answers how many events were counted so far.
        complete: adds to a collection what no instrument has.
    """

    def __init__(self, exporter: MetricExporter, interval_s: float, owner: Exporter) -> None:
        self.reader = _Reader(exporter)
        self.taken: Callable[[], int] = lambda: 0
        self.complete: Callable[[MetricsData], MetricsData] = lambda collected: collected
        self._exporter = exporter
        self._lock = threading.RLock()
        self._confirmed = 0
        self._worker = Worker(
            f"smallmind-otlp-{Signal.METRICS}",
            self._export,
            owner=owner,
            interval_s=interval_s,
            prepare=suppress_instrumentation,
            on_error=lambda _: None,  # unconfirmed, which is all there is to say
        )

    @property
    def takes_ready_made(self) -> bool:
        """Whether histograms are sent as the store counts them."""
        return takes_ready_made(self._exporter)

    def commit(self, events: int) -> None:
        """Nothing: the store has counted them."""

    def start(self) -> None:
        """Begin to export at intervals."""
        self._worker.start()

    def ask(self) -> Done:
        """Export now."""
        return self._worker.ask()

    def stop(self) -> Done:
        """Export a last time."""
        return self._worker.stop()

    def abandon(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()

    @property
    def counts(self) -> Counts:
        """Events that the receiver has not confirmed yet."""
        with self._lock:
            return Counts(waiting=max(0, self.taken() - self._confirmed))

    def _export(self) -> None:
        taken = self.taken()
        self.reader.collected = None
        self.reader.collect(COLLECT_TIMEOUT_MS)
        collected = self.reader.collected
        if collected is None or self._send(self.complete(collected)):
            self._confirm(taken)

    def _send(self, collected: MetricsData) -> bool:
        return self._exporter.export(collected) is MetricExportResult.SUCCESS

    def _confirm(self, taken: int) -> None:
        with self._lock:
            self._confirmed = max(self._confirmed, taken)
