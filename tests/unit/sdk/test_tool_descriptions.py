"""Tools as a model is told of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest

from smallmind._chat_tools import as_tools
from smallmind.chat import Tool
from smallmind_engine.telemetry import MissingExtraError, ReasonCode, ToolError
from weather_tool import SCHEMA, weather


def test_a_function_is_described_by_its_signature_and_docstring() -> None:
    (tool,) = as_tools([weather])
    assert tool.spec == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tell the weather. Of any town.",
            "parameters": SCHEMA,
        },
    }


def test_a_description_in_json_is_taken_with_or_without_its_wrapping() -> None:
    inner = {"name": "weather", "description": "Tell the weather.", "parameters": SCHEMA}
    for thing in (inner, {"type": "function", "function": inner}):
        (tool,) = as_tools([thing])
        assert tool.spec["function"] == inner
        assert tool.function is None
    (bare,) = as_tools([{"name": "now"}])
    assert bare.parameters == {"type": "object", "properties": {}}


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (list, {"type": "array"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Mapping[str, Any], {"type": "object", "additionalProperties": {}}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Color, {"enum": ["red", "blue"]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (Annotated[str, 3, "a note"], {"type": "string", "description": "a note"}),
        (Annotated[str, 3], {"type": "string"}),
    ],
)
def test_types_become_schemas(hint: Any, schema: dict[str, object]) -> None:
    def tool(value):
        pass

    tool.__annotations__ = {"value": hint}
    assert as_tools([tool])[0].parameters["properties"] == {"value": schema}


def untyped(x):
    pass


def of_bytes(x: bytes) -> None:
    pass


def of_anything(*x: int) -> None:
    pass


def of_keys(x: dict[int, str]) -> None:
    pass


def of_nothing_known(x: "Missing") -> None:  # noqa: F821, UP037 - that is the point
    pass


@pytest.mark.parametrize(
    ("things", "complaint"),
    [
        ([untyped], "'x' has no type"),
        ([of_bytes], "which JSON Schema does not know"),
        ([of_keys], "which JSON Schema does not know"),
        ([of_anything], "cannot be passed by name"),
        ([of_nothing_known], "signature cannot be read"),
        ([weather, weather], "two of that name"),
        ([{"name": "a b"}], "its name must be"),
        ([{"name": ""}], "its name must be"),
        ([{"type": "function", "function": "x"}], "'function' must be an object"),
        ([7], "a tool is a function"),
        ([{"name": "a", "parameters": []}], "JSON Schema, an object"),
        ([{"name": "a", "parameters": {"type": "string"}}], "the type 'object'"),
        ([{"name": "a", "parameters": {"properties": {"x": {"type": "no"}}}}], "is wrong at"),
        ([{"name": "a", "parameters": {"x": object()}}], "is a object"),
        ([lambda: 1], "its name must be"),
    ],
)
def test_what_cannot_be_a_tool_is_told(things: list[Any], complaint: str) -> None:
    with pytest.raises(ToolError, match=complaint) as caught:
        as_tools(things)
    assert caught.value.reason is ReasonCode.TOOL_DEFINITION_INVALID


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(MissingExtraError, match=r"smallmind\[tools\]"):
        as_tools([weather])


def test_a_schema_fetches_nothing() -> None:
    tool = Tool(name="a", parameters={"$ref": "http://127.0.0.1:9/schema.json"})
    with pytest.raises(Exception, match="Unresolvable"):
        tool.complaints({})
