"""One event of every type, filled from the types of its fields."""

from __future__ import annotations

import sys
import typing

from smallmind_engine import telemetry
from smallmind_engine.telemetry import Event
from telemetry_doubles import IDS

EVENT_TYPES: tuple[type[Event], ...] = tuple(
    value
    for value in vars(telemetry).values()
    if isinstance(value, type) and issubclass(value, Event) and value is not Event
)


def sample(event_type: type[Event], sequence: int = 7) -> Event:
    values = [_value(hint) for name, hint in fields_of(event_type).items() if name not in COMMON]
    return event_type(sequence, 123_456, IDS, *values)


def fields_of(event_type: type[Event]) -> dict[str, object]:
    hints: dict[str, object] = {}
    for base in reversed(event_type.__mro__):
        own = vars(base).get("__annotations__", {})
        scope = vars(sys.modules[base.__module__])
        hints |= {name: eval(hint, scope) for name, hint in own.items() if isinstance(hint, str)}  # noqa: S307
    return {name: hints[name] for name in event_type._fields}


COMMON = ("sequence", "time_ns", "correlation")


def _value(hint: object) -> object:
    if isinstance(hint, type) and issubclass(hint, (str, int)) and hasattr(hint, "__members__"):
        return next(iter(hint))
    if typing.get_args(hint) and type(None) in typing.get_args(hint):
        return _value(typing.get_args(hint)[0])
    plain = {int: 3, float: 0.25, str: "text", bool: True, object: "value"}
    return plain.get(hint, ())
