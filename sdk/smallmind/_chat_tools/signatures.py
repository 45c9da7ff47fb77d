"""A function's signature and docstring as name, description and JSON Schema."""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Union

from smallmind_engine.telemetry import ReasonCode, ToolError

Schema = dict[str, object]

_PLAIN: Final[Mapping[object, Schema]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    object: {},
    list: {"type": "array"},
    dict: {"type": "object"},
}
_LISTS: Final = (list, Sequence)
_OBJECTS: Final = (dict, Mapping)
_UNIONS: Final = (Union, types.UnionType)
_ARGUMENT: Final = re.compile(r"^(\w+)(?:\s*\([^)]*\))?\s*:\s*(.*)$")
_SECTION: Final = re.compile(r"^(Args|Arguments|Parameters|Returns|Raises|Yields|Example[s]?):\s*$")


def described_function(function: Callable[..., object]) -> tuple[str, str, Schema]:
    """Name, description and schema of a function's parameters.

    The description is the docstring's text before its sections; descriptions of parameters are
    those of its ``Args`` section.

    Raises:
        ToolError: a parameter has no type, one that JSON cannot hold, or takes any number of
            values.
    """
    name = getattr(function, "__name__", type(function).__name__)
    about, notes = _docstring(inspect.getdoc(function) or "")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
    except (NameError, TypeError, ValueError) as error:
        raise _unusable(name, f"its signature cannot be read: {error}") from error
    properties: dict[str, Schema] = {}
    required = []
    for parameter in parameters.values():
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise _unusable(name, f"{parameter} cannot be passed by name")
        if parameter.name not in hints:
            raise _unusable(name, f"the parameter {parameter.name!r} has no type")
        schema = _schema_of(name, parameter.name, hints[parameter.name])
        if parameter.name in notes:
            schema["description"] = notes[parameter.name]
        properties[parameter.name] = schema
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    whole: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        whole["required"] = required
    return name, about, whole


def _schema_of(tool: str, parameter: str, hint: Any) -> Schema:
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if inspect.isclass(hint) and issubclass(hint, enum.Enum) and issubclass(hint, str):
        return {"enum": [member.value for member in hint]}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    schema: Schema | None = None
    if origin is Literal:
        schema = {"enum": list(arguments)}
    elif origin is typing.Annotated:
        notes = [note for note in arguments[1:] if isinstance(note, str)]
        schema = _schema_of(tool, parameter, arguments[0])
        schema |= {"description": notes[0]} if notes else {}
    elif origin in _UNIONS:
        schema = {"anyOf": [_schema_of(tool, parameter, each) for each in arguments]}
    elif origin in _LISTS:
        schema = {"type": "array", "items": _schema_of(tool, parameter, arguments[0])}
    elif origin in _OBJECTS and arguments[0] is str:
        values = _schema_of(tool, parameter, arguments[1])
        schema = {"type": "object", "additionalProperties": values}
    if schema is not None:
        return schema
    raise _unusable(
        tool,
        f"the parameter {parameter!r} has the type {hint}, which JSON Schema does not know;"
        " use str, int, float, bool, None, list[…], dict[str, …], Literal, StrEnum, or a union",
    )


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """The text before the sections, and the notes of the section on arguments by name."""
    about: list[str] = []
    notes: dict[str, str] = {}
    section, name, depth = "", "", 0
    for line in text.splitlines():
        heading = _SECTION.match(line)
        if heading:
            section, name, depth = heading[1], "", 0
        elif not section:
            about.append(line)
        elif section in {"Args", "Arguments", "Parameters"} and line.strip():
            indent = len(line) - len(line.lstrip())
            depth = depth or indent
            entry = _ARGUMENT.match(line.strip()) if indent <= depth else None
            if entry:
                name = entry[1]
                notes[name] = entry[2]
            elif name:
                notes[name] = f"{notes[name]} {line.strip()}".strip()
    return " ".join(" ".join(about).split()), notes


def _unusable(tool: str, why: str) -> ToolError:
    return ToolError(
        ReasonCode.TOOL_DEFINITION_INVALID, f"the tool {tool!r} cannot be used: {why}", tool=tool
    )
