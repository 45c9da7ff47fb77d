"""Exporters and events that the tests of telemetry share."""

from __future__ import annotations

import threading
from collections.abc import Callable

from smallmind_engine.telemetry import (
    ALL_KINDS,
    Correlation,
    Emitter,
    Event,
    FlushResult,
    TokenGenerated,
)

IDS = Correlation("req-1", "alice", "ab" * 16, "cd" * 8, 1, has_parent=False)


class Recorder:
    """Keeps what it is given; ``on_export`` may do something with it first."""

    def __init__(
        self,
        name: str = "recorder",
        *,
        interests: int = ALL_KINDS,
        inline: bool = True,
        on_export: Callable[[Event], None] | None = None,
    ) -> None:
        self.name = name
        self.interests = interests
        self.inline = inline
        self.events: list[Event] = []
        self.threads: set[str] = set()
        self.closed = 0
        self.on_export = on_export

    def export(self, event: Event, /) -> None:
        self.threads.add(threading.current_thread().name)
        if self.on_export is not None:
            self.on_export(event)
        self.events.append(event)

    def flush(self, timeout_s: float) -> FlushResult:
        return FlushResult()

    def close(self) -> None:
        self.closed += 1

    def of(self, event_type: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, event_type)]


def raising(error: BaseException) -> Callable[[Event], None]:
    def fail(_: Event) -> None:
        raise error

    return fail


def token(emitter: Emitter, index: int = 0) -> TokenGenerated:
    return TokenGenerated(*emitter.header(), "model", index, 0.01, 0.0)


def publish_tokens(emitter: Emitter, count: int) -> None:
    for index in range(count):
        emitter.publish(token(emitter, index))
