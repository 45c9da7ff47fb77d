"""What the assertions of the in-memory exporter check, as functions over events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from smallmind_engine.telemetry import (
    Degraded,
    Event,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    KVCacheEvicted,
    MemoryBudgetEvent,
    PrefillEnded,
    RequestAdmitted,
    RequestQueued,
    RequestRejected,
    TokenGenerated,
    TokenizerDiagnosed,
)

_START: Final = type(None)

# For each step of a request's life, the steps that may come right before it.
_BEFORE: Final[dict[type, tuple[type, ...]]] = {
    RequestQueued: (_START,),
    RequestAdmitted: (RequestQueued,),
    RequestRejected: (RequestQueued, RequestAdmitted),
    InferenceStarted: (RequestAdmitted,),
    PrefillEnded: (InferenceStarted,),
    FirstToken: (PrefillEnded,),
    TokenGenerated: (FirstToken, TokenGenerated),
    InferenceStopped: (
        _START,
        RequestQueued,
        RequestAdmitted,
        RequestRejected,
        InferenceStarted,
        PrefillEnded,
        FirstToken,
        TokenGenerated,
    ),
}

_IDS: Final = (
    ("trace_id", re.compile(r"(?!0+$)[0-9a-f]{32}")),
    ("span_id", re.compile(r"(?!0+$)[0-9a-f]{16}")),
)


def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like assert
    """Raise ``AssertionError`` with ``message`` unless ``condition``."""
    if not condition:
        raise AssertionError(message)


def describe(event: Event) -> str:
    """Which event it is, in a few words."""
    return f"{type(event).__name__} #{event.sequence}"


def by_request(events: Iterable[Event]) -> dict[str, list[Event]]:
    """The events of each request, in the order of their first events.

    Events of other operations, such as loading a model, are left out; all events with the id of
    a request belong to it, log events included.
    """
    groups: dict[str, list[Event]] = {}
    for event in events:
        groups.setdefault(event.correlation.request_id, []).append(event)
    return {key: group for key, group in groups.items() if any(type(e) in _BEFORE for e in group)}


def fault_of_order(events: Sequence[Event]) -> str:
    """What is wrong with the order of one request's events; empty when nothing is."""
    previous: Event | None = None
    tokens = 0
    for event in events:
        if type(event) not in _BEFORE:
            continue
        if type(previous) not in _BEFORE[type(event)]:
            expected = " or ".join(_name(step) for step in _BEFORE[type(event)])
            came_after = describe(previous) if previous is not None else "nothing"
            return f"{describe(event)} came after {came_after}, expected after {expected}"
        if previous is not None and (event.sequence, event.time_ns) <= (
            previous.sequence,
            previous.time_ns,
        ):
            return f"{describe(event)} arrived after {describe(previous)}"
        if isinstance(event, TokenGenerated):
            if event.index != tokens:
                return f"{describe(event)} has index {event.index}, expected {tokens}"
            tokens += 1
        previous = event
    if not isinstance(previous, InferenceStopped):
        return f"has not ended; its last event is {describe(events[-1])}"
    return ""


def _name(step: type) -> str:
    return "nothing" if step is _START else step.__name__


def fault_of_ids(event: Event) -> str:
    """What is wrong with the ids of an event; empty when nothing is."""
    ids = event.correlation
    if not ids.request_id:
        return "has no request id"
    for name, form in _IDS:
        value = getattr(ids, name)
        if not form.fullmatch(value):
            return f"{name} is {value!r}, which is not a W3C id"
    return ""


def degradations(events: Iterable[Event]) -> list[str]:
    """What worked less well than asked for, one line each."""
    found = []
    for event in events:
        if isinstance(event, Degraded):
            found.append(f"{event.component}: {event.reason} ({event.message})")
        elif isinstance(event, TokenizerDiagnosed):
            found.extend(f"tokenizer of {event.model}: {issue}" for issue in event.issues)
        elif isinstance(event, KVCacheEvicted):
            found.append(f"KV cache of {event.model}: {event.reason}")
        elif isinstance(event, MemoryBudgetEvent):
            found.append(f"memory for {event.category}: {event.reason}")
    return found
