"""The way of each signal out of the process: through our own sender, or the host's provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from smallmind_engine.telemetry import Exporter
from smallmind_exporters.otlp.outbox import Counts, Outbox, Parcel
from smallmind_exporters.otlp.settings import Batching, Signal
from smallmind_exporters.otlp.worker import Done, Worker

_T = TypeVar("_T")

HOST_FLUSH_MS: Final = 30_000


class Leg(Protocol):
    """How one signal leaves the process."""

    def commit(self, events: int) -> None:
        """What was made since the last call stands for so many events."""
        ...

    def ask(self) -> Done:
        """Have all sent; the answer gets an item when that was tried."""
        ...

    def stop(self) -> Done:
        """Have all sent a last time; the answer gets an item when that was tried."""
        ...

    def abandon(self) -> None:
        """Give up what still waits, and let go of connections."""
        ...

    @property
    def counts(self) -> Counts:
        """How the events fared."""
        ...


class OwnLeg(Generic[_T]):
    """Sends what our own provider makes, in batches from a thread of its own.

    Args:
        signal: for the name of the thread.
        export: hands a batch to the SDK's exporter; whether that succeeded.
        shutdown: lets go of that exporter's connections.
        batching: how records are gathered.
        owner: the exporter this belongs to.
        size: of a record, where 1 is a plain one.
    """

    def __init__(
        self,
        signal: Signal,
        export: Callable[[Sequence[_T]], bool],
        shutdown: Callable[[], object],
        batching: Batching,
        owner: Exporter,
        *,
        size: Callable[[_T], int] = lambda _: 1,
    ) -> None:
        self._made: list[_T] = []
        self._size = size
        self._shutdown = shutdown
        self._worker = Worker(
            f"smallmind-otlp-{signal}",
            self._send_all,
            owner=owner,
            interval_s=batching.delay_s,
            prepare=suppress_instrumentation,
            on_error=_counted,
        )
        self._outbox: Outbox[_T] = Outbox(
            export, capacity=batching.capacity, batch=batching.batch, on_batch=self._worker.wake
        )

    def made(self, record: _T) -> None:
        """Take a record from our own provider."""
        self._made.append(record)

    def commit(self, events: int) -> None:
        """Queue what was made, as one parcel."""
        made, self._made = self._made, []
        if made:
            self._outbox.put(Parcel(tuple(made), events, sum(map(self._size, made))))
            self._worker.start()

    def ask(self) -> Done:
        """Send all."""
        return self._worker.ask()

    def stop(self) -> Done:
        """Send all a last time."""
        return self._worker.stop()

    def abandon(self) -> None:
        """Give up what still waits, and close the connection."""
        self._outbox.give_up()
        self._shutdown()

    @property
    def counts(self) -> Counts:
        """How the events fared."""
        return self._outbox.counts

    def _send_all(self) -> None:
        self._outbox.send_all()


class HostLeg:
    """Hands everything to the host's provider, which counts and loses on its own account.

    Args:
        signal: for the name of the thread.
        provider: the host's, flushed when we are.
        owner: the exporter this belongs to.
    """

    def __init__(self, signal: Signal, provider: Any, owner: Exporter) -> None:
        self._provider = provider
        self._worker = Worker(
            f"smallmind-otlp-{signal}",
            self._flush,
            owner=owner,
            interval_s=None,
            prepare=suppress_instrumentation,
            on_error=_counted,
        )

    def commit(self, events: int) -> None:
        """Nothing: the provider has it already."""

    def ask(self) -> Done:
        """Flush the provider."""
        return self._worker.ask()

    def stop(self) -> Done:
        """Flush the provider, which stays open: it is the host's."""
        self._worker.start()
        return self._worker.stop()

    def abandon(self) -> None:
        """Nothing is ours."""

    @property
    def counts(self) -> Counts:
        """Nothing is known of what became of them."""
        return Counts()

    def _flush(self) -> None:
        flush = getattr(self._provider, "force_flush", None)
        if flush is not None:
            flush(HOST_FLUSH_MS)


def suppress_instrumentation() -> None:
    """Have no instrumentation of the host trace what this thread sends."""
    otel_context.attach(otel_context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, value=True))


def _counted(error: Exception) -> None:
    """The outbox has counted the events of a batch whose export raised."""
