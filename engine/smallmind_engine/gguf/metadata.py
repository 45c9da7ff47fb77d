"""Metadata: typed values by key, and how to ask for one that must have a certain type."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from smallmind_engine.control import WorkLimit
from smallmind_engine.gguf.cursor import Cursor
from smallmind_engine.gguf.format_errors import format_error
from smallmind_engine.telemetry.errors import GgufFormatError
from smallmind_engine.telemetry.reasons import ReasonCode

MetadataValue = int | float | bool | str | npt.NDArray[Any] | list[Any]

_MAX_NESTING: Final = 8
_STRINGS_AT_ONCE: Final = 16384


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
_FORMATS: Final[Mapping[ValueType, str]] = {
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


def read_metadata(cursor: Cursor, count: int, limit: WorkLimit) -> dict[str, MetadataValue]:
    """The next ``count`` keys with their values.

    Raises:
        GgufFormatError: the bytes break the format.
        OperationCancelledError: ``limit`` was exceeded.
    """
    metadata: dict[str, MetadataValue] = {}
    for _ in range(count):
        limit.check("reading metadata")
        at = cursor.offset
        key = cursor.string("a metadata key")
        if key in metadata:
            raise format_error(
                ReasonCode.GGUF_DUPLICATE_NAME,
                cursor.path,
                at,
                f"the metadata key {key!r} stands there twice",
                key=key,
            )
        metadata[key] = _value(cursor, _type(cursor, key), key, limit, 0)
    return metadata


def _type(cursor: Cursor, key: str) -> ValueType:
    at = cursor.offset
    number = cursor.u32(f"the type of {key!r}")
    try:
        return ValueType(number)
    except ValueError:
        raise format_error(
            ReasonCode.GGUF_TYPE_UNKNOWN,
            cursor.path,
            at,
            f"{key!r} has the value type {number}; known are 0 to {max(ValueType)}",
            key=key,
            value=number,
        ) from None


def _value(
    cursor: Cursor, kind: ValueType, key: str, limit: WorkLimit, depth: int
) -> MetadataValue:
    if kind is ValueType.STRING:
        return cursor.string(f"the value of {key!r}")
    if kind is ValueType.ARRAY:
        return _array(cursor, key, limit, depth)
    number = cursor.number(struct.Struct(cursor.order + _FORMATS[kind]), f"the value of {key!r}")
    return bool(number) if kind is ValueType.BOOL else number


def _array(cursor: Cursor, key: str, limit: WorkLimit, depth: int) -> MetadataValue:
    if depth >= _MAX_NESTING:
        raise format_error(
            ReasonCode.GGUF_VALUE_OUT_OF_RANGE,
            cursor.path,
            cursor.offset,
            f"{key!r} nests arrays more than {_MAX_NESTING} deep",
            key=key,
        )
    kind = _type(cursor, key)
    what = f"the number of elements of {key!r}"
    if kind is ValueType.STRING:
        count = cursor.count(8, what)
        strings: list[str] = []
        while len(strings) < count:
            limit.check("reading metadata")
            strings += cursor.strings(min(_STRINGS_AT_ONCE, count - len(strings)), repr(key))
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
    values = np.frombuffer(cursor.buffer, dtype, count, cursor.offset)
    cursor.offset += values.nbytes
    # A copy: a view would keep the file mapped, and may have the other byte order.
    return values.astype(bool if kind is ValueType.BOOL else dtype.newbyteorder("="), copy=True)


# -- asking for values ------------------------------------------------------------------------


def _wrong(key: str, value: object, wanted: str) -> GgufFormatError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return GgufFormatError(
        ReasonCode.GGUF_METADATA_INVALID,
        f"metadata key {key!r} is {shown}; it must be {wanted}",
        key=key,
        value=value,
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
        raise _wrong(key, value, "an integer")
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
        raise _wrong(key, value, "a finite number")
    return float(value)


def get_bool(metadata: Mapping[str, MetadataValue], key: str, *, default: bool) -> bool:
    """A boolean, or ``default``.

    Raises:
        GgufFormatError: there is something else.
    """
    value = metadata.get(key, default)
    if not isinstance(value, bool):
        raise _wrong(key, value, "a boolean")
    return value


def get_str(metadata: Mapping[str, MetadataValue], key: str, default: str) -> str:
    """A string, or ``default``.

    Raises:
        GgufFormatError: there is something else.
    """
    value = metadata.get(key, default)
    if not isinstance(value, str):
        raise _wrong(key, value, "a string")
    return value


def require_str(metadata: Mapping[str, MetadataValue], key: str) -> str:
    """A string that must be there.

    Raises:
        GgufFormatError: it is missing, or something else.
    """
    if key not in metadata:
        raise _missing(key)
    return get_str(metadata, key, "")
