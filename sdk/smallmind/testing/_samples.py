"""Events to test exporters with: those of a whole request, and one of every type."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from enum import Enum

from smallmind_engine import telemetry
from smallmind_engine.telemetry import (
    Correlation,
    Event,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    Phase,
    PrefillEnded,
    RequestAdmitted,
    RequestQueued,
    RequestStatus,
    StopReason,
    TokenGenerated,
)

_HEADER = ("sequence", "time_ns", "correlation")
_MS = 1_000_000
_PLAIN: dict[object, object] = {int: 3, float: 0.25, str: "text", bool: True, object: "value"}


def sample_correlation(request_id: str = "req-1") -> Correlation:
    """Ids of a request without a parent."""
    return Correlation(request_id, None, "ab" * 16, "cd" * 8, 1, has_parent=False)


def request_events(
    ids: Correlation | None = None, *, model: str = "sample", tokens: int = 4, first: int = 1
) -> list[Event]:
    """The events of a request that completes, a millisecond apart.

    Args:
        ids: its correlation.
        model: name of the model.
        tokens: how many it generates; at least one.
        first: number of the first event.
    """
    chosen = ids or sample_correlation()
    count = first - 1

    def header() -> tuple[int, int, Correlation]:
        nonlocal count
        count += 1
        return count, count * _MS, chosen

    queue_s, prefill_s, token_s = 0.001, 0.002, 0.001
    events: list[Event] = [
        RequestQueued(*header(), model=model, queue_depth=1),
        RequestAdmitted(*header(), model=model, queue_s=queue_s, queue_depth=0, in_flight=1),
        InferenceStarted(
            *header(),
            model=model,
            backend="sample",
            operation="text_completion",
            streaming=True,
            prompt_tokens=8,
            max_tokens=tokens,
        ),
        PrefillEnded(
            *header(), model=model, computed_tokens=6, cached_tokens=2, duration_s=prefill_s
        ),
        FirstToken(*header(), model=model, time_to_first_token_s=queue_s + prefill_s),
    ]
    events += [
        TokenGenerated(*header(), model=model, index=index, engine_s=token_s, consumer_s=0.0)
        for index in range(tokens)
    ]
    ledger = (
        (Phase.QUEUE.value, queue_s),
        (Phase.PREFILL.value, prefill_s),
        (Phase.DECODE.value, tokens * token_s),
    )
    events.append(
        InferenceStopped(
            *header(),
            model=model,
            backend="sample",
            operation="text_completion",
            streaming=True,
            status=RequestStatus.COMPLETED,
            reason=StopReason.MAX_TOKENS,
            error_type="",
            prompt_tokens=8,
            cached_tokens=2,
            completion_tokens=tokens,
            duration_s=sum(seconds for _, seconds in ledger),
            time_to_first_token_s=queue_s + prefill_s,
            ledger=ledger,
        )
    )
    return events


def every_event(ids: Correlation | None = None) -> Iterator[Event]:
    """A whole request, then one event of every type there is, its fields filled by their types."""
    chosen = ids or sample_correlation()
    events = request_events(chosen)
    yield from events
    number = len(events)
    for event_type in event_types():
        number += 1
        values = [_value(hint) for name, hint in _hints(event_type).items() if name not in _HEADER]
        yield event_type(number, number * _MS, chosen, *values)


def event_types() -> tuple[type[Event], ...]:
    """All types of events that telemetry offers, by kind."""
    found = {
        value
        for value in vars(telemetry).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }
    return tuple(sorted(found, key=lambda event_type: event_type.kind))


def _hints(event_type: type[Event]) -> dict[str, object]:
    """Types of the fields; the decorator of events moved their annotations into a tuple."""
    hints: dict[str, object] = {}
    for base in reversed(event_type.__mro__):
        own = vars(base).get("__annotations__", {})
        scope = vars(sys.modules[base.__module__])
        hints |= {
            name: eval(hint, scope) if isinstance(hint, str) else hint  # noqa: S307 - our own source
            for name, hint in own.items()
        }
    fields: tuple[str, ...] = event_type._fields  # type: ignore[attr-defined]  # an event is a named tuple
    return {name: hints[name] for name in fields}


def _value(hint: object) -> object:
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    parts = typing.get_args(hint)
    if type(None) in parts:
        return _value(parts[0])
    return _PLAIN.get(hint, ())
