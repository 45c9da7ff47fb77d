"""Metadata: values of all types, and asking for one of a certain type."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gguf_files import CODES, EXTREMES, Key, all_types_keys, gguf_bytes
from smallmind_engine.control import NO_LIMIT
from smallmind_engine.gguf import (
    MetadataValue,
    get_bool,
    get_float,
    get_int,
    get_str,
    read_header,
    require_int,
    require_str,
)
from smallmind_engine.telemetry.errors import GgufFormatError
from smallmind_engine.telemetry.reasons import ReasonCode

ORDERS = ["<", ">"]


def read(*keys: Key, order: str = "<") -> dict[str, MetadataValue]:
    return dict(read_header(gguf_bytes(keys, order=order), Path("m.gguf"), NO_LIMIT).metadata)


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", CODES)
def test_numbers_keep_their_value_at_both_ends_of_their_range(kind: str, order: str) -> None:
    for value in EXTREMES[kind]:
        found = read(("n", kind, value), order=order)["n"]
        assert found == value
        expected = {"f32": float, "f64": float, "bool": bool}.get(kind, int)
        assert type(found) is expected


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", CODES)
def test_arrays_of_numbers_become_native_arrays_of_their_type(kind: str, order: str) -> None:
    found = read(("n", f"[{kind}]", EXTREMES[kind]), order=order)["n"]

    assert isinstance(found, np.ndarray)
    code = {"u": "u", "i": "i", "f": "f"}.get(kind[0])
    expected = np.dtype(bool if code is None else f"{code}{int(kind[1:]) // 8}")
    assert found.dtype == expected
    assert found.dtype.isnative
    assert found.flags.owndata
    assert found.tolist() == list(EXTREMES[kind])


@pytest.mark.parametrize("order", ORDERS)
def test_all_types_stand_side_by_side(order: str) -> None:
    keys = all_types_keys()

    found = read(*keys, order=order)

    assert list(found) == [name for name, _, _ in keys]
    for name, _, value in keys:
        got = found[str(name)]
        assert (got.tolist() if isinstance(got, np.ndarray) else got) == (
            list(value) if isinstance(value, tuple) else value
        )


def test_an_array_may_be_the_last_thing_in_the_file_and_empty() -> None:
    assert read(("n", "[f64]", ()))["n"].tolist() == []


def test_nan_is_kept() -> None:
    assert math.isnan(read(("n", "f32", math.nan))["n"])


def test_strings_that_are_no_utf8_come_back_byte_by_byte() -> None:
    raw = b"ok \xff\xfe\x80 \xed\xa0\x80"

    found = read((raw, "str", raw), ("list", "[str]", [raw]))
    name = raw.decode("utf-8", "surrogateescape")

    assert found[name].encode("utf-8", "surrogateescape") == raw
    assert found["list"] == [name]


def test_long_lists_of_strings_are_read_in_order() -> None:
    words = [f"token {index}" for index in range(40_000)]

    assert read(("words", "[str]", words))["words"] == words


def test_arrays_nest_eight_deep() -> None:
    assert read(("a", "[" * 8 + "u8" + "]" * 8, [[[[[[[[7]]]]]]]]))["a"] == [[[[[[[[7]]]]]]]]


def test_arrays_that_nest_deeper_are_refused() -> None:
    with pytest.raises(GgufFormatError, match="nests arrays") as caught:
        read(("a", "[" * 9 + "u8" + "]" * 9, [[[[[[[[[7]]]]]]]]]))

    assert caught.value.reason is ReasonCode.GGUF_VALUE_OUT_OF_RANGE


@pytest.mark.parametrize(
    ("keys", "offset"),
    [
        ([("a", "bool", 2)], 24 + 8 + 1 + 4),
        ([("a", "[bool]", [1, 0, 255])], 24 + 8 + 1 + 4 + 4 + 8 + 2),
    ],
)
def test_a_boolean_is_0_or_1(keys: list[Key], offset: int) -> None:
    with pytest.raises(GgufFormatError, match="boolean") as caught:
        read(*keys)

    assert caught.value.details["offset"] == offset


def test_booleans_in_inner_arrays_are_booleans() -> None:
    assert read(("a", "[[bool]]", [[1, 0]]))["a"] == [[True, False]]


def test_a_key_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(GgufFormatError, match="'a' stands there twice") as caught:
        read(("a", "u8", 1), ("b", "u8", 1), ("a", "u8", 1))

    assert caught.value.reason is ReasonCode.GGUF_DUPLICATE_NAME
    assert caught.value.details["offset"] == 24 + 2 * 14


@pytest.mark.parametrize("wrapper", ["", "[", "[["])
def test_an_unknown_type_is_refused_by_number(wrapper: str) -> None:
    array = (9).to_bytes(4, "little")
    one = (1).to_bytes(8, "little")
    value = {"": b"", "[": array, "[[": array + array + one}[wrapper]

    with pytest.raises(GgufFormatError, match="value type 13") as caught:
        read(("a", "raw", value + (13).to_bytes(4, "little") + bytes(16)))

    assert caught.value.reason is ReasonCode.GGUF_TYPE_UNKNOWN
    assert caught.value.details["offset"] == 24 + 9 + len(value)


def test_a_key_has_at_most_65535_bytes() -> None:
    assert len(read(("k" * 65535, "u8", 1))) == 1
    with pytest.raises(GgufFormatError, match="65536 bytes"):
        read(("k" * 65536, "u8", 1))


# -- asking ------------------------------------------------------------------------------------

VALUES = read(
    ("int", "i32", -3),
    ("float", "f32", 0.5),
    ("bool", "bool", 1),
    ("str", "str", "text"),
    ("list", "[u8]", [1]),
    ("inf", "f64", math.inf),
)


@pytest.mark.parametrize(
    ("ask", "key", "expected"),
    [
        (lambda key: get_int(VALUES, key, 9), "int", -3),
        (lambda key: get_int(VALUES, key, 9), "none", 9),
        (lambda key: require_int(VALUES, key), "int", -3),
        (lambda key: get_float(VALUES, key, 9.0), "float", 0.5),
        (lambda key: get_float(VALUES, key, 9.0), "int", -3.0),
        (lambda key: get_float(VALUES, key, 9.0), "none", 9.0),
        (lambda key: get_bool(VALUES, key, default=False), "bool", True),
        (lambda key: get_bool(VALUES, key, default=False), "none", False),
        (lambda key: get_str(VALUES, key, "else"), "str", "text"),
        (lambda key: get_str(VALUES, key, "else"), "none", "else"),
        (lambda key: require_str(VALUES, key), "str", "text"),
    ],
)
def test_a_value_of_the_right_type_is_given(
    ask: Callable[[str], object], key: str, expected: object
) -> None:
    assert ask(key) == expected
    assert type(ask(key)) is type(expected)


@pytest.mark.parametrize(
    ("ask", "wrong", "wanted"),
    [
        (lambda key: get_int(VALUES, key, 9), ["float", "bool", "str", "list"], "an integer"),
        (lambda key: require_int(VALUES, key), ["float", "bool", "str", "list"], "an integer"),
        (lambda key: get_float(VALUES, key, 9.0), ["inf", "bool", "str", "list"], "a finite"),
        (lambda key: get_bool(VALUES, key, default=False), ["int", "str", "list"], "a boolean"),
        (lambda key: get_str(VALUES, key, "else"), ["int", "bool", "list"], "a string"),
        (lambda key: require_str(VALUES, key), ["int", "bool", "list"], "a string"),
    ],
)
def test_a_value_of_another_type_is_refused(
    ask: Callable[[str], object], wrong: list[str], wanted: str
) -> None:
    for key in wrong:
        with pytest.raises(GgufFormatError, match=wanted) as caught:
            ask(key)
        assert caught.value.reason is ReasonCode.GGUF_METADATA_INVALID
        assert caught.value.details["key"] == key


@pytest.mark.parametrize("require", [require_int, require_str])
def test_a_value_that_must_be_there_is_missed_by_name(
    require: Callable[[dict[str, MetadataValue], str], object],
) -> None:
    with pytest.raises(GgufFormatError, match="'none' is missing") as caught:
        require(VALUES, "none")

    assert caught.value.reason is ReasonCode.GGUF_METADATA_MISSING


def test_the_refusal_tells_where_the_key_stands() -> None:
    content = gguf_bytes([("a", "u8", 1), ("b", "str", "x")])
    metadata = read_header(content, Path("m.gguf"), NO_LIMIT).metadata

    with pytest.raises(GgufFormatError, match="'b' at byte 38 is 'x'; it must be an int") as caught:
        get_int(metadata, "b", 0)

    assert caught.value.details["offset"] == 38


def test_the_refusal_of_a_huge_value_is_short() -> None:
    huge: dict[str, MetadataValue] = {"s": "x" * 10**6, "l": ["y" * 1000] * 10**5}

    for key in huge:
        with pytest.raises(GgufFormatError) as caught:
            get_int(huge, key, 0)
        assert len(str(caught.value)) < 1000
