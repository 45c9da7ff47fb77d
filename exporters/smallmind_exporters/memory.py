"""Keeps events in memory, for tests: look at them, or assert what they should say."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Final, Self, TypeVar

from smallmind_engine.telemetry import (
    ALL_KINDS,
    Event,
    FlushResult,
    InferenceStopped,
    MachineMeasured,
    ReasonCode,
    RequestStatus,
    RooflineRow,
    StopReason,
    renew_in_child,
    roofline_rows,
)
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_exporters import _checks

DEFAULT_CAPACITY: Final = 65_536

_E = TypeVar("_E", bound=Event)


class InMemoryExporter:
    """Records events, the latest ``capacity`` of them, and offers assertions on them.

    Thread-safe.

    The ``assert_`` methods raise ``AssertionError`` with what was found. They look at all
    requests on record, or at one when ``request_id`` is given, and fail when there is none.
    After ``close`` nothing more is recorded, and the record stays readable.

    Args:
        capacity: events to keep; when there are more the oldest go, and are counted.
        interests: the kinds to record, ``EventKind`` bits combined with ``|``.

    Raises:
        ConfigError: the capacity is less than one.

    Example:
        >>> with InMemoryExporter() as record:  # doctest: +SKIP
        ...     subscription = bus.subscribe(record)  # or: exporters=[record] when loading
        ...     ...
        >>> record.assert_completed()  # doctest: +SKIP
    """

    name: Final = "memory"
    inline: Final = True

    def __init__(self, *, capacity: int = DEFAULT_CAPACITY, interests: int = ALL_KINDS) -> None:
        if capacity < 1:
            raise ConfigError(
                ReasonCode.OPTION_INVALID,
                f"capacity is {capacity}, but an in-memory exporter keeps at least one event",
                hint=f"the default is {DEFAULT_CAPACITY}",
                capacity=capacity,
            )
        self.capacity: Final = capacity
        self.interests: Final = interests
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Start empty, also in a child process: what was recorded belongs to the parent."""
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()
        self._events: deque[Event] = deque()
        self._taken = 0
        self._dropped = 0
        self._closed = False

    def export(self, event: Event, /) -> None:
        """Record one event."""
        with self._lock:
            if self._closed:
                return
            if len(self._events) >= self.capacity:
                self._events.popleft()
                self._dropped += 1
            self._events.append(event)
            self._taken += 1

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """Nothing is held back; tells how many events were recorded and how many of them went."""
        with self._lock:
            return FlushResult(delivered=self._taken, dropped=self._dropped)

    def close(self) -> None:
        """Record no more. May be called more than once."""
        with self._lock:
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def events(self) -> tuple[Event, ...]:
        """The record, oldest first."""
        with self._lock:
            return tuple(self._events)

    @property
    def dropped(self) -> int:
        """Events that went because the capacity was reached."""
        return self._dropped

    @property
    def request_ids(self) -> tuple[str, ...]:
        """The requests on record, in order of their first event."""
        return tuple(_checks.by_request(self.events))

    def of(self, event_type: type[_E], *, request_id: str | None = None) -> tuple[_E, ...]:
        """The events of one type, such as ``TokenGenerated``, oldest first."""
        return tuple(
            event
            for event in self.events
            if isinstance(event, event_type) and request_id in {None, event.correlation.request_id}
        )

    def for_request(self, request_id: str) -> tuple[Event, ...]:
        """All events of one request, log events included, oldest first."""
        return tuple(e for e in self.events if e.correlation.request_id == request_id)

    def roofline(self, *, request_id: str | None = None) -> tuple[RooflineRow, ...]:
        """What the operations of the model reached, by name; those that took longest first.

        Needs an engine with ``detail="kernel"``. The shares of what the machine can do are
        there when the exporter was attached as the engine was loaded.
        """
        events = self.events if request_id is None else self.for_request(request_id)
        measured = self.of(MachineMeasured)
        return roofline_rows(events, measured[-1] if measured else None)

    def clear(self) -> None:
        """Forget the record and the count of dropped events."""
        with self._lock:
            self._events.clear()
            self._taken = 0
            self._dropped = 0

    def assert_completed(self, request_id: str | None = None) -> None:
        """Each request ended, with status ``completed``."""
        for key, stop in self._stops(request_id).items():
            _checks.require(
                stop.status is RequestStatus.COMPLETED,
                f"request {key} is {stop.status} ({stop.reason}"
                f"{', ' + stop.error_type if stop.error_type else ''}), expected completed",
            )

    def assert_stopped(self, reason: StopReason, request_id: str | None = None) -> None:
        """Each request ended, for ``reason``."""
        for key, stop in self._stops(request_id).items():
            _checks.require(
                stop.reason == reason,
                f"request {key} stopped with {stop.reason}, expected {reason}",
            )

    def assert_ttft_below(self, seconds: float, request_id: str | None = None) -> None:
        """Each request had its first token in less than ``seconds`` after submission."""
        for key, stop in self._stops(request_id).items():
            ttft = stop.time_to_first_token_s
            _checks.require(
                ttft is not None,
                f"request {key} had no token: {stop.status} ({stop.reason})",
            )
            _checks.require(
                ttft is not None and ttft < seconds,
                f"request {key} had its first token after {ttft:.6g} s,"
                f" expected below {seconds:g} s",
            )

    def assert_tokens(
        self,
        *,
        completion: int | None = None,
        prompt: int | None = None,
        cached: int | None = None,
        request_id: str | None = None,
    ) -> None:
        """Each request had so many tokens of each kind; None for any number."""
        expected = {
            "completion_tokens": completion,
            "prompt_tokens": prompt,
            "cached_tokens": cached,
        }
        for key, stop in self._stops(request_id).items():
            for name, number in expected.items():
                found = getattr(stop, name)
                _checks.require(
                    number in {None, found},
                    f"request {key} has {found} {name.replace('_', ' ')}, expected {number}",
                )

    def assert_no_degradation(self) -> None:
        """Nothing worked less well than asked for: no fallback, eviction or budget limit."""
        found = _checks.degradations(self.events)
        _checks.require(not found, f"{len(found)} degradations: " + "; ".join(found))
        self._require_whole_record()

    def assert_ordered(self, request_id: str | None = None) -> None:
        """The events of each request come in the order of its life, ended exactly once.

        Queued, admitted, started, prefill ended, first token, tokens counted from 0, stopped; a
        request may end early, but not skip a step.
        """
        self._require_whole_record()
        for key, events in self._requests(request_id).items():
            fault = _checks.fault_of_order(events)
            _checks.require(not fault, f"request {key}: {fault}")

    def assert_correlated(self, trace_id: str | None = None) -> None:
        """All events carry well-formed ids, the same ones within a request.

        Args:
            trace_id: the trace that every request should belong to, such as the host's.
        """
        for event in self.events:
            fault = _checks.fault_of_ids(event)
            _checks.require(not fault, f"{_checks.describe(event)}: {fault}")
        for key, events in self._requests(None).items():
            first = events[0].correlation
            for event in events:
                _checks.require(
                    event.correlation == first,
                    f"request {key}: {_checks.describe(event)} carries {event.correlation},"
                    f" but the request began with {first}",
                )
            _checks.require(
                trace_id in {None, first.trace_id},
                f"request {key} belongs to trace {first.trace_id}, expected {trace_id}",
            )

    def _requests(self, request_id: str | None) -> dict[str, list[Event]]:
        requests = _checks.by_request(self.events)
        _checks.require(bool(requests), "no request is on record" + self._note_on_drops())
        if request_id is None:
            return requests
        _checks.require(
            request_id in requests,
            f"request {request_id} is not on record; known: {', '.join(requests)}"
            + self._note_on_drops(),
        )
        return {request_id: requests[request_id]}

    def _stops(self, request_id: str | None) -> dict[str, InferenceStopped]:
        stops = {}
        for key, events in self._requests(request_id).items():
            ends = [event for event in events if isinstance(event, InferenceStopped)]
            _checks.require(
                bool(ends),
                f"request {key} has not ended; its last event is {_checks.describe(events[-1])}",
            )
            stops[key] = ends[-1]
        return stops

    def _note_on_drops(self) -> str:
        return f" ({self._dropped} events dropped; raise capacity)" if self._dropped else ""

    def _require_whole_record(self) -> None:
        _checks.require(
            not self._dropped,
            f"the record is not whole: {self._dropped} events dropped; raise capacity"
            f" (now {self.capacity})",
        )
