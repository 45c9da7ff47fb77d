"""Metadata: typed values by key, and how to ask for one that must have a certain type."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import WorkLimit
from smallmind_engine.gguf.cursor import MAX_NAME_BYTES, Cursor
from smallmind_engine.gguf.format_errors import format_error, shown
from smallmind_engine.telemetry.errors import GgufFormatError
from smallmind_engine.telemetry.reasons import ReasonCode

MetadataValue = int | float | bool | str | npt.NDArray[Any] | list[Any]
"""Arrays of numbers and booleans are NumPy arrays; of strings, lists; of arrays, lists of lists."""

_MAX_NESTING: Final = 8
_STRINGS_AT_ONCE: Final = 4096


class ValueType(IntEnum):
    """Types of metadata values."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_DTYPES: Final[Mapping[ValueType, str]] = {
    ValueType.UINT8: "u1",
    ValueType.INT8: "i1",
    ValueType.UINT16: "u2",
    ValueType.INT16: "i2",
    ValueType.UINT32: "u4",
    ValueType.INT32: "i4",
    ValueType.FLOAT32: "f4",
    ValueType.BOOL: "u1",
    ValueType.UINT64: "u8",
    ValueType.INT64: "i8",
    ValueType.FLOAT64: "f8",
}
_CODES: Final[Mapping[ValueType, str]] = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "B",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}
_SCALARS: Final[Mapping[tuple[str, ValueType], struct.Struct]] = {
    (order, kind): struct.Struct(order + code) for order in "<>" for kind, code in _CODES.items()
}


class Metadata(dict[str, MetadataValue]):
    """Values by key, in the order of the file.

    Attributes:
        offsets: byte at which each key begins, for errors about its value.
    """

    __slots__ = ("offsets",)

    def __init__(self) -> None:
        super().__init__()
        self.offsets: dict[str, int] = {}


def read_metadata(cursor: Cursor, count: int, limit: WorkLimit) -> Metadata:
    """The next ``count`` keys with their values.

    Raises:
        GgufFormatError: the bytes break the format.
        OperationCancelledError: ``limit`` was exceeded.
    """
    metadata = Metadata()
    for _ in range(count):
        limit.check("reading metadata")
        at = cursor.offset
        key = cursor.string("a metadata key", MAX_NAME_BYTES)
        if key in metadata:
            raise format_error(
                ReasonCode.GGUF_DUPLICATE_NAME,
                cursor.path,
                at,
                f"the metadata key {shown(key)} stands there twice",
                key=key,
            )
        metadata.offsets[key] = at
        metadata[key] = _value(cursor, _type(cursor, key), key, limit, 0)
    return metadata


def _type(cursor: Cursor, key: str) -> ValueType:
    at = cursor.offset
    number = cursor.u32(f"the type of {shown(key)}")
    try:
        return ValueType(number)
    except ValueError:
        raise format_error(
            ReasonCode.GGUF_TYPE_UNKNOWN,
            cursor.path,
            at,
            f"{shown(key)} has the value type {number}; known are 0 to {max(ValueType)}",
            key=key,
            value=number,
        ) from None


def _value(
    cursor: Cursor, kind: ValueType, key: str, limit: WorkLimit, depth: int
) -> MetadataValue:
    if kind is ValueType.STRING:
        return cursor.string(f"the value of {shown(key)}")
    if kind is ValueType.ARRAY:
        return _array(cursor, key, limit, depth)
    at = cursor.offset
    number = cursor.number(_SCALARS[cursor.order, kind], f"the value of {shown(key)}")
    if kind is not ValueType.BOOL:
        return number
    if number > 1:
        raise _no_bool(cursor, at, key, int(number))
    return bool(number)


def _no_bool(cursor: Cursor, at: int, key: str, value: int) -> GgufFormatError:
    return format_error(
        ReasonCode.GGUF_VALUE_OUT_OF_RANGE,
        cursor.path,
        at,
        f"{shown(key)} holds the boolean {value}; only 0 and 1 are possible",
        key=key,
        value=value,
    )


def _array(cursor: Cursor, key: str, limit: WorkLimit, depth: int) -> MetadataValue:
    if depth >= _MAX_NESTING:
        raise format_error(
            ReasonCode.GGUF_VALUE_OUT_OF_RANGE,
            cursor.path,
            cursor.offset,
            f"{shown(key)} nests arrays more than {_MAX_NESTING} deep",
            key=key,
        )
    kind = _type(cursor, key)
    what = f"the number of elements of {shown(key)}"
    if kind is ValueType.STRING:
        count = cursor.count(8, what)
        strings: list[str] = []
        while len(strings) < count:
            limit.check("reading metadata")
            strings += cursor.strings(min(_STRINGS_AT_ONCE, count - len(strings)), shown(key))
        return strings
    if kind is ValueType.ARRAY:
        count = cursor.count(12, what)
        nested: list[MetadataValue] = []
        for _ in range(count):
            limit.check("reading metadata")
            nested.append(_array(cursor, key, limit, depth + 1))
        return nested
    dtype = np.dtype(cursor.order + _DTYPES[kind])
    count = cursor.count(dtype.itemsize, what)
    at = cursor.offset
    values = np.frombuffer(cursor.buffer, dtype, count, at)
    cursor.offset += values.nbytes
    if kind is ValueType.BOOL and values.max(initial=0) > 1:
        index = int(np.argmax(values > 1))
        raise _no_bool(cursor, at + index, key, int(values[index]))
    if depth:
        # Lists inside of lists: an array object is many times the size of a short array.
        numbers: list[Any] = values.tolist()
        return [number == 1 for number in numbers] if kind is ValueType.BOOL else numbers
    # A copy: a view would keep the file mapped, and may have the other byte order.
    return values.astype(bool if kind is ValueType.BOOL else dtype.newbyteorder("="), copy=True)


# -- asking for values ------------------------------------------------------------------------


def _wrong(
    metadata: Mapping[str, MetadataValue], key: str, value: object, wanted: str
) -> GgufFormatError:
    offsets = metadata.offsets if isinstance(metadata, Metadata) else {}
    at = f" at byte {offsets[key]}" if key in offsets else ""
    return GgufFormatError(
        ReasonCode.GGUF_METADATA_INVALID,
        f"metadata key {shown(key)}{at} is {shown(value)}; it must be {wanted}",
        key=key,
        value=value,
        offset=offsets.get(key),
    )


def _missing(key: str) -> GgufFormatError:
    return GgufFormatError(
        ReasonCode.GGUF_METADATA_MISSING, f"metadata key {key!r} is missing", key=key
    )


def get_int(metadata: Mapping[str, MetadataValue], key: str, default: int) -> int:
    """An integer, or ``default``.

    Raises:
        GgufFormatError: there is something else.
    """
    value = metadata.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(metadata, key, value, "an integer")
    return value


def require_int(metadata: Mapping[str, MetadataValue], key: str) -> int:
    """An integer that must be there.

    Raises:
        GgufFormatError: it is missing, or something else.
    """
    if key not in metadata:
        raise _missing(key)
    return get_int(metadata, key, 0)


def get_float(metadata: Mapping[str, MetadataValue], key: str, default: float) -> float:
    """A finite number, or ``default``.

    Raises:
        GgufFormatError: there is something else.
    """
    value = metadata.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not np.isfinite(value):
        raise _wrong(metadata, key, value, "a finite number")
    return float(value)


def get_bool(metadata: Mapping[str, MetadataValue], key: str, *, default: bool) -> bool:
    """A boolean, or ``default``.

    Raises:
        GgufFormatError: there is something else.
    """
    value = metadata.get(key, default)
    if not isinstance(value, bool):
        raise _wrong(metadata, key, value, "a boolean")
    return value


def get_str(metadata: Mapping[str, MetadataValue], key: str, default: str) -> str:
    """A string, or ``default``.

    Raises:
        GgufFormatError: there is something else.
    """
    value = metadata.get(key, default)
    if not isinstance(value, str):
        raise _wrong(metadata, key, value, "a string")
    return value


def require_str(metadata: Mapping[str, MetadataValue], key: str) -> str:
    """A string that must be there.

    Raises:
        GgufFormatError: it is missing, or something else.
    """
    if key not in metadata:
        raise _missing(key)
    return get_str(metadata, key, "")
