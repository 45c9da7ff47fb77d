"""Laws of the lines of a log: nothing is lost, nothing breaks out, nothing crashes the reader."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_strategies import any_event, of_type
from smallmind_engine.telemetry import Event, TokenGenerated
from smallmind_engine.telemetry.eventlog import (
    LogHeader,
    Unreadable,
    event_from,
    event_line,
    event_types,
)
from smallmind_engine.telemetry.eventlog.reading import parsed
from telemetry_samples import EVENT_TYPES, sample

few = settings(max_examples=25)


def same(one: object, other: object) -> bool:
    """Equal in type and value, to the bit; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or (one == other and math.copysign(1, one) == math.copysign(1, other))
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    return one == other


def test_every_type_of_event_has_a_coding():
    assert set(event_types().values()) == set(EVENT_TYPES)


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda t: t.__name__)
def test_an_event_comes_back_from_its_line_as_it_was(event_type):
    @few
    @given(of_type(event_type))
    def law(event):
        twin = event_from(json.loads(event_line(event)))
        assert same(twin, event), (twin, event)

    law()


@given(any_event)
def test_a_line_is_strict_json_in_printable_ascii_whatever_the_event_holds(event):
    def refuse(constant):
        raise AssertionError(constant)

    line = event_line(event)
    assert line.isascii()
    assert line.isprintable()
    json.loads(line, parse_constant=refuse)


@few
@given(any_event, st.dictionaries(st.text(min_size=1), st.integers(), max_size=3))
def test_fields_of_a_newer_version_are_passed_by(event, extra):
    document = json.loads(event_line(event))
    document["data"] = {**{f"new {k}": v for k, v in extra.items()}, **document["data"]}
    document["correlation"]["tenant"] = "x"
    document["later"] = extra
    assert same(event_from(document), event)


def test_fields_that_an_older_version_did_not_write_get_their_defaults():
    document = json.loads(event_line(sample(TokenGenerated)))
    del document["data"]["token_id"]
    assert event_from(document) == sample(TokenGenerated)._replace(token_id=None)


@given(any_event, st.data())
def test_a_damaged_line_is_unreadable_and_never_an_error(event, data):
    line = bytearray(event_line(event).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(line) - 1))
        line[place : place + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=3))
    assert isinstance(parsed(bytes(line), 1), Event | Unreadable | LogHeader)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(EVENT_TYPES), st.data())
def test_values_of_the_wrong_type_make_a_line_unreadable_rather_than_a_strange_event(kind, data):
    document = json.loads(event_line(sample(kind)))
    name = data.draw(st.sampled_from(sorted(document["data"])))
    document["data"][name] = data.draw(json_values)
    record = parsed(json.dumps(document).encode(), 1)
    if isinstance(record, Event):
        assert same(event_from(json.loads(event_line(record))), record)
    else:
        assert isinstance(record, Unreadable)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'"text"',
        b"[" * 100_000,
        b'{"event": []}',
        b'{"event": "TokenGenerated"}',
        b'{"event":"TokenGenerated","sequence":true,"time_ns":1,"correlation":{},"data":{}}',
        b"\xff\xfe",
        b'{"event": "TokenGenerated", "sequence": ' + b"9" * 5000 + b"}",
        b'{"health": 3}',
        b'{"lost": {"events": "x"}}',
        b'{"smallmind_event_log": 1}',
    ],
)
def test_a_line_that_is_no_record_is_unreadable(line):
    assert isinstance(parsed(line, 3), Unreadable)


def test_an_event_of_a_newer_version_is_told_apart_from_damage():
    document = {**json.loads(event_line(sample(TokenGenerated))), "event": "TokenDreamt"}
    record = parsed(json.dumps(document).encode(), 3)
    assert record == Unreadable(3, "unknown event 'TokenDreamt'", unknown=True)


def test_numbers_of_other_libraries_are_written_as_numbers():
    np = pytest.importorskip("numpy")
    event = sample(TokenGenerated)._replace(index=np.int64(7), engine_s=np.float32(0.5))
    twin = event_from(json.loads(event_line(event)))
    assert (twin.index, twin.engine_s) == (7, 0.5)
