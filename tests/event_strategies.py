"""Any event of any type, made from the types of its fields."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum

from hypothesis import strategies as st

from smallmind_engine.telemetry import Correlation, Event
from telemetry_samples import COMMON, EVENT_TYPES

ids = st.builds(
    Correlation,
    request_id=st.text(),
    session_id=st.none() | st.text(),
    trace_id=st.text(),
    span_id=st.text(),
    trace_flags=st.integers(),
    has_parent=st.booleans(),
)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
properties = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def of_hint(hint: object) -> st.SearchStrategy[object]:
    """Values of a type hint."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in {types.UnionType, typing.Union}:
        return st.one_of(*(of_hint(each) for each in arguments))
    if typing.get_origin(hint) is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(of_hint(arguments[0]), max_size=3).map(tuple)
        return st.tuples(*(of_hint(each) for each in arguments))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{name: of_hint(each) for name, each in hints.items()})
    known = {
        int: st.integers(),
        float: st.floats() | st.integers(),
        str: st.text(st.characters()),
        bool: st.booleans(),
        object: properties,
        type(None): st.none(),
    }
    return known[hint]


def of_type(event_type: type[Event]) -> st.SearchStrategy[Event]:
    """Events of one type."""
    hints = typing.get_type_hints(event_type)
    own = [of_hint(hints[name]) for name in event_type._fields if name not in COMMON]
    return st.builds(event_type, st.integers(), st.integers(), ids, *own)


any_event = st.one_of(*(of_type(event_type) for event_type in EVENT_TYPES))
