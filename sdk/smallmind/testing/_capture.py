"""Capturing the events of engines, with assertions about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar, cast

from smallmind._engine import Engine
from smallmind._exporters import create_exporter
from smallmind_engine.telemetry import Event, Exporter, StopReason

_E = TypeVar("_E", bound=Event)


class Recording(Exporter, Protocol):
    """What was captured. It is an exporter: pass it to ``smallmind.load`` to see the load too.

    The ``assert_`` methods raise ``AssertionError`` with what was found instead. They look at all
    requests, or at one when ``request_id`` is given, and fail when there is none.
    """

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, oldest first."""
        ...

    @property
    def request_ids(self) -> tuple[str, ...]:
        """The requests, in order of their first event."""
        ...

    def of(self, event_type: type[_E], *, request_id: str | None = None) -> tuple[_E, ...]:
        """The events of one type, oldest first."""
        ...

    def for_request(self, request_id: str) -> tuple[Event, ...]:
        """All events of one request, oldest first."""
        ...

    def clear(self) -> None:
        """Forget what was captured."""
        ...

    def assert_completed(self, request_id: str | None = None) -> None:
        """Each request ended, with status ``completed``."""
        ...

    def assert_stopped(self, reason: StopReason, request_id: str | None = None) -> None:
        """Each request ended, for ``reason``."""
        ...

    def assert_ttft_below(self, seconds: float, request_id: str | None = None) -> None:
        """Each request had its first token in less than ``seconds`` after submission."""
        ...

    def assert_tokens(
        self,
        *,
        completion: int | None = None,
        prompt: int | None = None,
        cached: int | None = None,
        request_id: str | None = None,
    ) -> None:
        """Each request had so many tokens of each kind; None for any number."""
        ...

    def assert_no_degradation(self) -> None:
        """Nothing worked less well than asked for."""
        ...

    def assert_ordered(self, request_id: str | None = None) -> None:
        """The events of each request come in the order of its life, ended exactly once."""
        ...

    def assert_correlated(self, trace_id: str | None = None) -> None:
        """All events carry well-formed ids, the same ones within a request."""
        ...


@contextmanager
def capture(*engines: Engine) -> Iterator[Recording]:
    """Capture all events of engines inside the ``with`` block; readable after it, too.

    Args:
        engines: whose requests to capture, beginning with those not yet begun. None is needed
            when the recording itself is handed to ``smallmind.load`` as an exporter.
    """
    recording = cast("Recording", create_exporter("memory"))
    subscriptions = [engine.bus.subscribe(recording) for engine in engines]
    try:
        yield recording
    finally:
        for subscription in subscriptions:
            subscription.close()
        recording.close()
