"""A tool: what the model is told of it, and what is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from smallmind._chat_tools.signatures import described_function
from smallmind._template_sandbox import plain_data
from smallmind_engine.telemetry import (
    ChatTemplateError,
    MissingExtraError,
    ReasonCode,
    ToolError,
)

Json = Mapping[str, object]

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that a model may ask for.

    Attributes:
        name: by which the model calls it.
        description: tells the model what it is good for.
        parameters: JSON Schema of its arguments, an object.
        function: is called with the arguments by name; None when an executor of yours does it.
    """

    name: str
    description: str = ""
    parameters: Json = field(default_factory=lambda: {"type": "object", "properties": {}})
    function: Callable[..., object] | None = None

    def __post_init__(self) -> None:
        """Check name and schema.

        Raises:
            ToolError: one of them cannot be used.
            MissingExtraError: ``jsonschema`` is not installed.
        """
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise _unusable(
                self.name,
                "its name must be letters, digits, _, - and ., beginning with a letter",
            )
        if not isinstance(self.parameters, Mapping):
            raise _unusable(self.name, "its parameters must be a JSON Schema, an object")
        try:
            plain = plain_data(self.parameters, "its schema")
        except ChatTemplateError as error:
            raise _unusable(self.name, str(error)) from error
        object.__setattr__(self, "parameters", plain)
        if self.parameters.get("type", "object") != "object":
            raise _unusable(self.name, "the schema of its parameters must have the type 'object'")
        _check_schema(self.name, self.parameters)

    @property
    def spec(self) -> dict[str, object]:
        """The description in the form that chat templates know."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}

    def complaints(self, arguments: object) -> list[str]:
        """What is wrong with arguments by the schema, in words; empty when nothing is."""
        errors = sorted(_validator(self.parameters).iter_errors(arguments), key=str)
        return [f"{error.json_path}: {error.message}" for error in errors]


ToolLike = Tool | Callable[..., object] | Json
"""What may stand for a tool: see ``as_tools``."""


def as_tools(things: Sequence[ToolLike]) -> tuple[Tool, ...]:
    """Tools from what a caller has: tools, functions, or JSON descriptions.

    A description is ``{"name", "description", "parameters"}``, alone or as ``function`` in
    ``{"type": "function", "function": {…}}``.

    Raises:
        ToolError: one cannot be used, or two have the same name.
        MissingExtraError: ``jsonschema`` is not installed.
    """
    tools = tuple(_as_tool(thing) for thing in things)
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise _unusable(name, "there are two of that name")
    return tools


def _as_tool(thing: object) -> Tool:
    if isinstance(thing, Tool):
        return thing
    if isinstance(thing, Mapping):
        function = thing.get("function", thing)
        if not isinstance(function, Mapping):
            raise _unusable(thing.get("name"), "its 'function' must be an object")
        known = {key: function[key] for key in ("description", "parameters") if key in function}
        return Tool(name=function.get("name", ""), **known)
    if callable(thing):
        name, description, parameters = described_function(thing)
        return Tool(name=name, description=description, parameters=parameters, function=thing)
    raise _unusable(thing, "a tool is a function, a Tool, or a JSON description")


def _unusable(name: object, why: str) -> ToolError:
    return ToolError(
        ReasonCode.TOOL_DEFINITION_INVALID, f"the tool {name!r} cannot be used: {why}", tool=name
    )


def _check_schema(name: str, schema: Json) -> None:
    try:
        import jsonschema
    except ImportError as error:
        raise MissingExtraError("tools", "tool calling") from error
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        raise _unusable(
            name, f"the schema of its parameters is wrong at {error.json_path}: {error.message}"
        ) from error


def _validator(schema: Json) -> Any:
    import jsonschema
    import referencing

    kind = jsonschema.validators.validator_for(schema)
    # With a registry of its own it fetches nothing: a schema may name addresses.
    return kind(schema, registry=referencing.Registry())
