"""The event bus: carries events to exporters, and keeps their troubles away from the engine.

An ``Emitter`` is a request's view of the bus: the exporters that were subscribed when the request
began, so that each of them sees whole requests only. ``Emitter.wants`` is the mask of kinds that
anyone wants; a site that emits tests it first and builds no event behind a zero bit.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from smallmind_engine.telemetry.clock import now_ns
from smallmind_engine.telemetry.correlation import (
    Correlation,
    current_correlation,
    new_correlation,
)
from smallmind_engine.telemetry.errors import ExporterError
from smallmind_engine.telemetry.events import Degraded, Event, LogLevel, RuntimeLogEvent
from smallmind_engine.telemetry.exporter import Exporter, ExporterHealth, FlushResult
from smallmind_engine.telemetry.exporting import inside
from smallmind_engine.telemetry.fork import renew_in_child
from smallmind_engine.telemetry.kinds import ALL_KINDS, NO_KINDS, EventKind
from smallmind_engine.telemetry.queued import STOP_TIMEOUT_S, stop_together
from smallmind_engine.telemetry.reasons import DegradeReason, ReasonCode
from smallmind_engine.telemetry.subscription import METERED_EVERY, Subscription
from smallmind_engine.telemetry.text import safe_str

_next_sequence: Final[Callable[[], int]] = itertools.count(1).__next__
_new_tuple: Final[Callable[..., Event]] = tuple.__new__

DETACHED_REMEMBERED: Final = 64


class Emitter:
    """What one request or operation publishes through.

    Attributes:
        wants: mask of the kinds that some exporter wants; test it before building an event.
        correlation: the ids of the request.
        subscriptions: those that it publishes to.
    """

    __slots__ = ("correlation", "subscriptions", "wants")

    def __init__(
        self, correlation: Correlation, subscriptions: tuple[Subscription, ...], wants: int
    ) -> None:
        self.correlation = correlation
        self.wants = wants
        self.subscriptions = subscriptions

    def header(self) -> tuple[int, int, Correlation]:
        """The first three fields of an event that is built now."""
        return _next_sequence(), now_ns(), self.correlation

    def publish(self, event: Event) -> None:
        """Deliver ``event`` to those who want its kind. Never raises."""
        kind = event.kind
        for subscription in self.subscriptions:
            if subscription.interests & kind and subscription.active:
                subscription.deliver(subscription, event)

    def tell(self, event_type: type[Event], *fields: object) -> None:
        """Build an event of a frequent kind, of all its own fields in order, and publish it.

        The same as ``header``, the event's constructor, ``publish`` and most of ``deliver`` in one
        function: where a step has left the caches cold, a call costs microseconds.
        """
        time_ns = now_ns()
        event = _new_tuple(event_type, (_next_sequence(), time_ns, self.correlation, *fields))
        kind = event_type.kind
        for subscription in self.subscriptions:
            if subscription.interests & kind and subscription.active:
                if (
                    time_ns <= subscription.gathers_until_ns
                    and len(subscription.backlog) % METERED_EVERY
                ):
                    subscription.backlog.append(event)
                else:
                    subscription.deliver(subscription, event)


class EventBus:
    """Where exporters subscribe. Thread-safe; subscribing never waits for a publisher.

    Args:
        clock: monotonic nanoseconds, with which it measures what its exporters take.
    """

    def __init__(self, clock: Callable[[], int] = now_ns) -> None:
        self.clock: Final = clock
        self._spent_ns = 0
        self._shed: dict[int, int] = {}
        self._detached: deque[Subscription] = deque(maxlen=DETACHED_REMEMBERED)
        # One immutable pair, replaced whole: readers need no lock and never see half a change.
        self._state: tuple[tuple[Subscription, ...], int] = ((), NO_KINDS)
        self.begin_in_child()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Begin with a free lock, as in a forked child."""
        # Re-entrant: the garbage collector may close a stream, which publishes, at any moment.
        self._lock = threading.RLock()

    @property
    def wants(self) -> int:
        """Mask of the kinds that someone wants now."""
        return self._state[1]

    def subscribe(self, exporter: Exporter, interests: int | None = None) -> Subscription:
        """Send events to ``exporter`` from now on, beginning with requests not yet begun.

        Args:
            exporter: receives the events.
            interests: narrows the exporter's own mask of kinds.

        Raises:
            ExporterError: this very exporter is subscribed already and would get all events twice.
        """
        wanted = exporter.interests if interests is None else interests & exporter.interests
        subscription = Subscription(self, exporter, wanted)
        with self._lock:
            present = self._state[0]
            if any(other.exporter is exporter for other in present):
                raise ExporterError(
                    ReasonCode.EXPORTER_SUBSCRIBED_TWICE,
                    f"exporter {exporter.name!r} is subscribed to this bus already",
                    hint="close its first subscription, or subscribe another instance",
                    exporter=exporter.name,
                )
            self._state = _state_of((*present, subscription))
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription off the bus; ``Subscription.close`` is the public way."""
        with self._lock:
            if subscription in self._state[0]:
                self._spent_ns += subscription.publish_ns
            self._state = _state_of(tuple(s for s in self._state[0] if s is not subscription))

    @property
    def overhead_ns(self) -> int:
        """Nanoseconds that telemetry took of the threads that publish, so far."""
        with self._lock:
            return self._spent_ns + sum(s.publish_ns for s in self._state[0])

    def note_overhead(self, spent_ns: int) -> None:
        """Count what was spent on finding out what an event says."""
        self._spent_ns += spent_ns

    def note_shed(self, kind: int) -> None:
        """Count an event that was not built because telemetry exceeded its budget."""
        self._shed[kind] = self._shed.get(kind, 0) + 1

    def shed(self, interests: int = ALL_KINDS) -> int:
        """How many events of these kinds were not built for that reason."""
        return sum(count for kind, count in tuple(self._shed.items()) if kind & interests)

    def emitter(self, correlation: Correlation | None = None) -> Emitter:
        """A view of the bus as it is now, for one request or operation.

        Args:
            correlation: its ids; the current ones, or fresh ones, when None.

        Returns:
            The view. Made inside an exporter it leaves that exporter out.
        """
        subscriptions, wants = self._state
        path = inside().path
        if path:
            subscriptions, wants = _state_of(tuple(s for s in subscriptions if s.is_outside(path)))
        return Emitter(
            correlation or current_correlation() or new_correlation(), subscriptions, wants
        )

    def is_current(self, emitter: Emitter) -> bool:
        """Whether an emitter that was made outside of exporters sees those subscribed now."""
        return emitter.subscriptions is self._state[0]

    def health(self) -> tuple[ExporterHealth, ...]:
        """How each exporter fares, the last detached ones included."""
        with self._lock:
            known = (*self._state[0], *self._detached)
        return tuple(subscription.health for subscription in known)

    def flush(self, timeout_s: float) -> dict[str, FlushResult]:
        """Flush every exporter, sharing ``timeout_s`` seconds; answers by exporter name.

        The answers of exporters of the same name are added up.
        """
        deadline_ns = now_ns() + int(timeout_s * 1e9)
        answers: dict[str, FlushResult] = {}
        for subscription in self._state[0]:
            name = subscription.health.name
            answer = subscription.flush(max(0.0, (deadline_ns - now_ns()) / 1e9))
            answers[name] = answers[name] + answer if name in answers else answer
        return answers

    def close(self) -> None:
        """Take all exporters off the bus; they stay open, for whoever opened them.

        What is queued is passed on, for two seconds at most over all exporters.
        """
        queues = [subscription.leave() for subscription in self._state[0]]
        stop_together((queue for queue in queues if queue is not None), STOP_TIMEOUT_S)

    def detach(self, subscription: Subscription) -> None:
        """Drop an exporter that keeps failing, and tell the others."""
        with self._lock:
            self._detached.append(subscription)
        subscription.leave(discard=True)
        health = subscription.health
        self._tell_degraded(
            f"exporter:{health.name}",
            DegradeReason.EXPORTER_DETACHED,
            f"detached after {health.errors} errors, last {health.last_error}",
        )

    def report_drops(self, subscription: Subscription, count: int) -> None:
        """Tell the exporters, the late one included, that a queue lost events."""
        self._tell_degraded(
            f"exporter:{subscription.health.name}",
            DegradeReason.EVENTS_DROPPED,
            f"{count} events were dropped because the queue was full",
        )

    def report_shed(self, message: str) -> None:
        """Tell the exporters that less detail is told from now on."""
        self._tell_degraded("telemetry", DegradeReason.TELEMETRY_SHED, message)

    def report_failure(self, subscription: Subscription, error: BaseException) -> None:
        """Tell the other exporters, once, that one of them failed."""
        others, wants = _state_of(tuple(s for s in self._state[0] if s is not subscription))
        emitter = Emitter(new_correlation(), others, wants)
        if emitter.wants & EventKind.LOG:
            emitter.publish(
                RuntimeLogEvent(
                    *emitter.header(),
                    level=LogLevel.WARN,
                    component="telemetry",
                    message="an exporter failed; the request goes on",
                    reason=ReasonCode.EXPORTER_FAILED,
                    error=type(error).__name__,
                    key1="exporter",
                    value1=subscription.health.name,
                    key2="detail",
                    value2=safe_str(error),
                )
            )

    def _tell_degraded(self, component: str, reason: DegradeReason, message: str) -> None:
        # Ids of its own: it belongs to no request, so none is seen in part by late subscribers.
        emitter = self.emitter(new_correlation())
        if emitter.wants & EventKind.DEGRADED:
            emitter.publish(
                Degraded(
                    *emitter.header(),
                    component=component,
                    reason=reason,
                    message=message,
                )
            )


def _state_of(subscriptions: tuple[Subscription, ...]) -> tuple[tuple[Subscription, ...], int]:
    wants = NO_KINDS
    for subscription in subscriptions:
        wants |= subscription.interests
    return subscriptions, wants
