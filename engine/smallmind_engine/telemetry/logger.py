"""Log calls: where they go (``RuntimeLogger``) and how a component makes them.

A ``RuntimeLogger`` receives finished events; users plug theirs in. A component of the engine
speaks through a ``RuntimeLoggerAdapter``, which turns a call into an event on the bus, or into
nothing at all when nobody wants log events.
"""

from __future__ import annotations

from typing import Final, Protocol

from smallmind_engine.telemetry.bus import Emitter, EventBus
from smallmind_engine.telemetry.errors import SmallMindError
from smallmind_engine.telemetry.events import LogLevel, RuntimeLogEvent
from smallmind_engine.telemetry.kinds import EventKind
from smallmind_engine.telemetry.reasons import ReasonCode
from smallmind_engine.telemetry.text import safe_str

PROPERTY_SLOTS: Final = 4

_LOG: Final = int(EventKind.LOG)


class RuntimeLogger(Protocol):
    """Takes log events: to a console, a file, another logging library."""

    def is_enabled(self, level: LogLevel, /) -> bool:
        """Whether an event of ``level`` would go anywhere."""
        ...

    def log_event(self, event: RuntimeLogEvent, /) -> None:
        """Take one event. Called from several threads."""
        ...


class NullRuntimeLogger:
    """Takes nothing."""

    __slots__ = ()

    def is_enabled(self, level: LogLevel, /) -> bool:  # noqa: ARG002 - the protocol's
        """No level is."""
        return False

    def log_event(self, event: RuntimeLogEvent, /) -> None:
        """Drop it."""


class RuntimeLoggerAdapter:
    """A component's log calls, published as events.

    When nobody wants log events a call costs one test of a mask; so pass values as properties
    rather than formatting them into the message.

    Args:
        component: the part of the system that speaks.
        source: a request's emitter, or the bus. On the bus, events carry the current correlation.
    """

    __slots__ = ("_component", "_source")

    def __init__(self, component: str, source: Emitter | EventBus) -> None:
        self._component = component
        self._source = source

    def is_enabled(self, level: LogLevel, /) -> bool:  # noqa: ARG002 - sinks choose among levels
        """Whether someone wants log events now; worth asking before a property is worked out."""
        return self._source.wants & _LOG != 0

    def log_event(self, event: RuntimeLogEvent, /) -> None:
        """Publish an event made elsewhere, as it is."""
        self._emitter().publish(event)

    def log(
        self,
        level: LogLevel,
        message: str,
        /,
        *,
        reason: ReasonCode | None = None,
        error: BaseException | None = None,
        **properties: object,
    ) -> None:
        """Publish a log event. Never raises.

        Args:
            level: severity.
            message: one sentence without values in it.
            reason: its code; by default that of ``error`` when it has one.
            error: the exception it reports; its text becomes the property ``detail``.
            **properties: values by name. An event has four slots: of more, the last slot,
                ``more``, takes all those that are left.
        """
        if not self._source.wants & _LOG:
            return
        if error is not None:
            properties.setdefault("detail", safe_str(error))
            if reason is None and isinstance(error, SmallMindError):
                reason = error.reason
        pairs = list(properties.items())
        if len(pairs) > PROPERTY_SLOTS:
            pairs[PROPERTY_SLOTS - 1 :] = [("more", tuple(pairs[PROPERTY_SLOTS - 1 :]))]
        emitter = self._emitter()
        emitter.publish(
            RuntimeLogEvent(
                *emitter.header(),
                level,
                self._component,
                message,
                reason,
                None if error is None else type(error).__name__,
                *(part for pair in pairs for part in pair),  # type: ignore[arg-type]  # key, value
            )
        )

    def trace(self, message: str, /, **properties: object) -> None:
        """Log what only its developer wants to see."""
        if self._source.wants & _LOG:
            self.log(LogLevel.TRACE, message, **properties)  # type: ignore[arg-type]  # never reason, error

    def debug(self, message: str, /, **properties: object) -> None:
        """Log what helps to find a fault."""
        if self._source.wants & _LOG:
            self.log(LogLevel.DEBUG, message, **properties)  # type: ignore[arg-type]  # as in trace

    def info(self, message: str, /, **properties: object) -> None:
        """Log what an operator likes to know."""
        if self._source.wants & _LOG:
            self.log(LogLevel.INFO, message, **properties)  # type: ignore[arg-type]  # as in trace

    def warn(
        self,
        message: str,
        /,
        *,
        reason: ReasonCode | None = None,
        error: BaseException | None = None,
        **properties: object,
    ) -> None:
        """Log what an operator should look into."""
        self.log(LogLevel.WARN, message, reason=reason, error=error, **properties)

    warning = warn
    """The same by the name that ``logging`` has for it."""

    def error(
        self,
        message: str,
        /,
        *,
        reason: ReasonCode | None = None,
        error: BaseException | None = None,
        **properties: object,
    ) -> None:
        """Log what failed."""
        self.log(LogLevel.ERROR, message, reason=reason, error=error, **properties)

    def _emitter(self) -> Emitter:
        source = self._source
        return source if isinstance(source, Emitter) else source.emitter()
