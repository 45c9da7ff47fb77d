"""Events are immutable slotted records with value semantics."""

from __future__ import annotations

import copy
import pickle

import pytest

from smallmind_engine.telemetry import (
    ALL_KINDS,
    BY_NAME_ONLY,
    NO_KINDS,
    Event,
    EventKind,
    LogLevel,
    ReasonCode,
    RuntimeLogEvent,
)
from telemetry_doubles import IDS
from telemetry_samples import COMMON, EVENT_TYPES, fields_of, sample

every_type = pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda t: t.__name__)


def test_every_kind_has_exactly_one_event_type():
    assert sorted(EventKind) == sorted(event_type.kind for event_type in EVENT_TYPES)


def test_each_kind_is_a_single_bit_and_the_masks_are_their_unions():
    assert all(kind.bit_count() == 1 for kind in EventKind)
    assert sum(EventKind) == ALL_KINDS | BY_NAME_ONLY
    assert ALL_KINDS & BY_NAME_ONLY == 0
    assert sum(EventKind).bit_count() == len(EventKind)
    assert NO_KINDS == 0


@every_type
def test_the_fields_every_event_carries_come_first(event_type):
    assert event_type._fields[:3] == COMMON
    assert len(fields_of(event_type)) > 3


@every_type
def test_an_event_is_immutable_and_has_no_dict(event_type):
    event = sample(event_type)
    for name in (*event_type._fields, "kind", "anything_else"):
        with pytest.raises(AttributeError):
            setattr(event, name, 1)
    assert not hasattr(event, "__dict__")


@every_type
def test_an_event_survives_pickle_and_copy(event_type):
    event = sample(event_type)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(event, protocol))  # noqa: S301 - our own bytes
        assert (type(event), event) == (type(twin), twin)
    assert event == copy.copy(event) == copy.deepcopy(event)


@every_type
def test_equality_and_hash_go_by_type_and_values(event_type):
    assert sample(event_type) == sample(event_type)
    assert hash(sample(event_type)) == hash(sample(event_type))
    assert sample(event_type) != sample(event_type, sequence=8)
    assert sample(event_type) != tuple(sample(event_type))
    assert tuple(sample(event_type)) != sample(event_type)


def test_events_of_different_types_with_the_same_values_are_unequal_both_ways_round():
    twin = Event(1, 2, IDS)
    other = type("Other", (Event,), {"__slots__": ()})(1, 2, IDS)
    assert not twin == other  # noqa: SIM201 - both operators are under test
    assert twin != other


@every_type
def test_every_event_type_and_its_class_are_documented(event_type):
    assert event_type.__doc__
    assert not event_type.__doc__.startswith(event_type.__name__ + "(")


def test_an_event_shows_its_fields_by_name():
    assert "prompt_tokens=3" in repr(
        sample(next(t for t in EVENT_TYPES if "prompt_tokens" in t._fields))
    )


def test_a_log_event_tells_its_used_slots_by_name():
    event = RuntimeLogEvent(
        1, 2, IDS, LogLevel.INFO, "c", "m", key1="a", value1=None, key3="b", value3=3
    )
    assert event.properties == {"a": None, "b": 3}
    assert event.reason is None


def test_a_log_event_takes_its_optional_fields_by_name():
    event = RuntimeLogEvent(1, 2, IDS, LogLevel.WARN, "c", "m", reason=ReasonCode.ERROR, error="X")
    assert (event.reason, event.error, event.properties) == (ReasonCode.ERROR, "X", {})
