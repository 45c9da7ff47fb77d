"""Tuples that look like dataclasses: what events are underneath.

Building one costs a third of a frozen dataclass, which counts for the event of every token.
"""

from __future__ import annotations

import inspect
from collections import namedtuple
from typing import TypeVar, dataclass_transform

from smallmind_engine.telemetry.kinds import FREQUENT

_E = TypeVar("_E")


@dataclass_transform(frozen_default=True)
def event(cls: type[_E]) -> type[_E]:
    """Turn a class with annotations into a named tuple with the fields of its bases first.

    It also notes whether the class's ``kind`` is one of the frequent ones.
    """
    own = {
        name: hint
        for name, hint in inspect.get_annotations(cls).items()
        if not str(hint).startswith("ClassVar")
    }
    inherited: tuple[str, ...] = getattr(cls.__bases__[0], "_fields", ())
    names = (*inherited, *own)
    defaults = [vars(cls)[name] for name in own if name in vars(cls)]
    row = namedtuple(cls.__name__, names, defaults=defaults)  # type: ignore[misc]  # noqa: PYI024 - made from the class
    skipped = {"__dict__", "__weakref__", *own}
    body = {name: value for name, value in vars(cls).items() if name not in skipped}
    bases = (row, *(base for base in cls.__bases__ if base is not object))
    if "kind" in body:
        body["is_frequent"] = bool(body["kind"] & FREQUENT)
    comparison = {"__eq__": _same, "__ne__": _differ, "__hash__": _hash}
    return type(cls.__name__, bases, {**body, "__slots__": (), **comparison})


def _same(record: tuple[object, ...], other: object) -> bool:
    """Equal when of the same type with the same values; plain tuples compare values only."""
    return type(record) is type(other) and tuple.__eq__(record, other)


def _differ(record: tuple[object, ...], other: object) -> bool:
    """The opposite of ``_same``; without it ``!=`` would be that of tuples."""
    return not _same(record, other)


def _hash(record: tuple[object, ...]) -> int:
    return hash((type(record), record[0]))
