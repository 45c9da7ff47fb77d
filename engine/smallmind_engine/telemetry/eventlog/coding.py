"""Events to and from lines of JSON, for every type of event that the package exports.

A line is ``{"event": type, "sequence": …, "time_ns": …, "correlation": {…}, "data": {fields}}``.
It holds printable ASCII only: no value can begin another line, or do harm to a terminal.
"""

from __future__ import annotations

import functools
import json
import typing
from dataclasses import dataclass
from typing import Any, Final

from smallmind_engine import telemetry
from smallmind_engine.telemetry.correlation import Correlation
from smallmind_engine.telemetry.eventlog.values import Coder, coder_of, mapping
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.text import safe_str

_COMMON: Final = Event._fields  # type: ignore[attr-defined]  # an event is a named tuple
_CORRELATION: Final = coder_of(Correlation)


class UnknownEventError(ValueError):
    """A line holds an event of a type that this version does not know."""


def _plain(value: object) -> object:
    """What ``json`` itself cannot write: numbers of other libraries, or else the text of it."""
    for convert in (int, float):
        try:
            converted = convert(value)  # type: ignore[arg-type,call-overload]  # the question
        except Exception:  # noqa: BLE001, S112 - then it is no number; a foreign method may raise anything
            continue
        if converted == value:
            return converted
    return safe_str(value)


to_text: Final = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_plain
).encode
"""JSON in one line of ASCII."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """The own fields of a type of event, in order, with their coders."""

    event_type: type[Event]
    fields: tuple[tuple[str, Coder], ...]
    required: frozenset[str]


@functools.cache
def event_types() -> dict[str, type[Event]]:
    """All types of events, by name."""
    return {
        name: value
        for name, value in vars(telemetry).items()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }


@functools.cache
def _layout(event_type: type[Event]) -> _Layout:
    names: tuple[str, ...] = event_type._fields  # type: ignore[attr-defined]  # as above
    defaults: dict[str, Any] = event_type._field_defaults  # type: ignore[attr-defined]  # as above
    hints = typing.get_type_hints(event_type)
    own = names[len(_COMMON) :]
    return _Layout(
        event_type,
        tuple((name, coder_of(hints[name])) for name in own),
        frozenset(own) - set(defaults),
    )


def event_line(event: Event) -> str:
    """An event as one line of JSON, without the line break.

    Hot: a log writes one for each token. So the ids, which are those of the line before as a rule,
    are not coded again.
    """
    layout = _layout(type(event))  # type: ignore[arg-type]  # a class is hashable
    values = event[len(_COMMON) :]  # type: ignore[index]  # an event is a named tuple
    data = {
        name: coder.encode(value)
        for (name, coder), value in zip(layout.fields, values, strict=True)
    }
    return (
        f'{{"event":"{layout.event_type.__name__}","sequence":{event.sequence:d},'
        f'"time_ns":{event.time_ns:d},"correlation":{_ids_text(event.correlation)},'
        f'"data":{to_text(data)}}}'
    )


@functools.lru_cache(maxsize=256)
def _ids_text(correlation: Correlation) -> str:
    return to_text(_CORRELATION.encode(correlation))


def event_from(document: dict[str, Any]) -> Event:
    """The event that a line holds. Fields that this version does not know are left out.

    Raises:
        UnknownEventError: its type is not known.
        ValueError: a field is missing, or has a value that it cannot have.
    """
    event_type = event_types().get(typing.cast("str", document.get("event")))
    if event_type is None:
        raise UnknownEventError(f"unknown event {str(document.get('event'))[:80]!r}")
    layout = _layout(event_type)  # type: ignore[arg-type]  # as above
    data = mapping(document.get("data"))
    missing = layout.required - data.keys()
    if missing:
        raise ValueError(f"{event_type.__name__} lacks {', '.join(sorted(missing))}")
    known = {name: coder.decode(data[name]) for name, coder in layout.fields if name in data}
    header = (_whole(document, "sequence"), _whole(document, "time_ns"))
    correlation = _CORRELATION.decode(document.get("correlation"))
    return event_type(*header, correlation, **known)


def _whole(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if type(value) is not int:
        raise ValueError(f"{name} is no whole number")
    return value
