"""Coding of field values to and from JSON, made from the types of the fields.

Nothing is lost: floats come back bit for bit (those that JSON has no number for are text), tuples
as tuples, enums as their members. A value that does not fit its type is a ``ValueError``.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from smallmind_engine.telemetry.text import safe_str

Encode = Callable[[Any], Any]
Decode = Callable[[Any], Any]

_TAG: Final = "~"
"""Key of the JSON objects that stand for values which JSON cannot tell from others."""

_NOT_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclasses.dataclass(frozen=True, slots=True)
class Coder:
    """How the values of one type are coded.

    Attributes:
        encode: to what ``json`` can write.
        decode: back from what ``json`` has read; raises ``ValueError`` when it does not fit.
    """

    encode: Encode
    decode: Decode


def coder_of(hint: object) -> Coder:
    """The coder of a type hint.

    Raises:
        TypeError: no coder for such a type is known.
    """
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        return _optional(hint, arguments)
    if origin is tuple:
        return _sequence(arguments[0]) if arguments[-1] is Ellipsis else _row(arguments)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Coder(lambda member: member.value, hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _record(hint)
    raise TypeError(f"no coding is known for values of type {hint!r}")


def _optional(hint: object, arguments: tuple[object, ...]) -> Coder:
    known = [argument for argument in arguments if argument is not type(None)]
    if len(known) != 1 or len(arguments) != 2:
        raise TypeError(f"no coding is known for the union {hint!r}")
    inner = coder_of(known[0])
    return Coder(
        lambda value: None if value is None else inner.encode(value),
        lambda value: None if value is None else inner.decode(value),
    )


def _sequence(item: object) -> Coder:
    coder = coder_of(item)
    return Coder(
        lambda values: [coder.encode(value) for value in values],
        lambda values: tuple(coder.decode(value) for value in _list(values)),
    )


def _row(items: tuple[object, ...]) -> Coder:
    coders = [coder_of(item) for item in items]
    return Coder(
        lambda values: [c.encode(v) for c, v in zip(coders, values, strict=True)],
        lambda values: tuple(c.decode(v) for c, v in zip(coders, _list(values), strict=True)),
    )


def _record(cls: type) -> Coder:
    """A frozen dataclass as a JSON object; keys that it does not know are left alone."""
    hints = typing.get_type_hints(cls)
    coders = {field.name: coder_of(hints[field.name]) for field in dataclasses.fields(cls)}

    def encode(value: object) -> dict[str, Any]:
        return {name: coder.encode(getattr(value, name)) for name, coder in coders.items()}

    def decode(value: object) -> object:
        given = mapping(value)
        known = {name: coder.decode(given[name]) for name, coder in coders.items() if name in given}
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"{cls.__name__}: {error}") from error

    return Coder(encode, decode)


def mapping(value: object) -> dict[str, Any]:
    """``value`` when it is a JSON object.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found {type(value).__name__}")  # noqa: TRY004 - bad data
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"expected an array, found {type(value).__name__}")  # noqa: TRY004 - bad data
    return value


def _of_type(*allowed: type) -> Decode:
    def decode(value: object) -> object:
        if type(value) not in allowed:
            names = " or ".join(each.__name__ for each in allowed)
            raise ValueError(f"expected {names}, found {type(value).__name__}")
        return value

    return decode


def _same(value: Any) -> Any:
    return value


def _encode_float(value: float) -> float | str:
    return value if math.isfinite(value) else _name_of(value)


def _name_of(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _decode_float(value: object) -> object:
    if isinstance(value, str):
        if value not in _NOT_FINITE:
            raise ValueError(f"expected a number, found {value[:40]!r}")
        return _NOT_FINITE[value]
    # A whole number stays one: some counts are ints where a float is allowed.
    return _of_type(float, int)(value)


def _encode_object(value: object) -> Any:
    """A log property of any type; what is no plain data becomes its text."""
    if value is None or type(value) in {bool, int, str}:
        return value
    for kind, encode in _ENCODED_OBJECTS:
        if isinstance(value, kind):
            return encode(value)
    return _tagged("text", safe_str(value))


def _tagged(tag: str, value: object) -> dict[str, object]:
    return {_TAG: tag, "value": value}


def _decode_object(value: Any) -> object:
    if isinstance(value, list):
        return [_decode_object(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag, inner = value.get(_TAG), value.get("value")
    if tag not in _TAGGED:
        raise ValueError(f"unknown kind of value {tag!r}")
    return _TAGGED[tag](inner)


_ENCODED_OBJECTS: Final[tuple[tuple[type, Encode], ...]] = (
    (float, lambda v: float(v) if math.isfinite(v) else _tagged("float", _name_of(v))),
    (bytes, lambda v: _tagged("bytes", v.hex())),
    (tuple, lambda v: _tagged("tuple", [_encode_object(item) for item in v])),
    (list, lambda v: [_encode_object(item) for item in v]),
    (dict, lambda v: _tagged("dict", [list(map(_encode_object, pair)) for pair in v.items()])),
)

_TAGGED: Final[dict[object, Decode]] = {
    "float": _decode_float,
    "bytes": lambda value: bytes.fromhex(_of_type(str)(value)),
    "tuple": lambda value: tuple(_decode_object(item) for item in _list(value)),
    "dict": lambda value: {_decode_object(k): _decode_object(v) for k, v in _list(value)},
    "text": _of_type(str),
}

_PLAIN: Final[dict[object, Coder]] = {
    int: Coder(_same, _of_type(int)),
    bool: Coder(_same, _of_type(bool)),
    str: Coder(_same, _of_type(str)),
    float: Coder(_encode_float, _decode_float),
    object: Coder(_encode_object, _decode_object),
    Any: Coder(_encode_object, _decode_object),
}
