"""Calls of tools as models write them, in the formats of their families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_templates import HERMES, LLAMA3, MISTRAL, SMOLLM2
from engines import tiny_engine
from smallmind import ChatOptions
from smallmind._chat_tools import as_tools, format_of, made_calls
from smallmind.chat import FORMATS
from smallmind_engine.telemetry import ReasonCode, ToolError
from tiny_models import TinyModel
from weather_tool import weather

GOOD = {"name": "weather", "arguments": {"city": "Rome"}}
ROME = [("weather", {"city": "Rome"}, "")]
READ = [
    (
        "hermes",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
        ROME,
    ),
    ("hermes", '<tool_call>{"name": "weather", "parameters": {"city": "Rome"}}</tool_call>', ROME),
    (
        "hermes",
        '<tool_call>{"name":"weather","arguments":"{\\"city\\":\\"Rome\\"}"}</tool_call>',
        ROME,
    ),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}', ROME),
    (
        "hermes",
        (
            '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>'
            '<tool_call>{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}</tool_call>'
        ),
        [*ROME, ("weather", {"city": "Oslo", "days": 2}, "")],
    ),
    ("llama3", '{"name": "weather", "parameters": {"city": "Rome"}}', ROME),
    ("llama3", '<|python_tag|>{"name": "weather", "parameters": {"city": "Rome"}}<|eom_id|>', ROME),
    (
        "llama3",
        (
            '{"name": "weather", "parameters": {"city": "Rome"}}; '
            '{"name": "weather", "parameters": {"city": "Oslo"}}'
        ),
        [*ROME, ("weather", {"city": "Oslo"}, "")],
    ),
    ("llama3", '<|python_tag|>weather.call(city="Rome")', ROME),
    ("mistral", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}}]', ROME),
    ("mistral", '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}}]</s>', ROME),
    ("mistral", '[TOOL_CALLS]weather[ARGS]{"city": "Rome"}', ROME),
    ("mistral", '[TOOL_CALLS]weather[CALL_ID]abc123[ARGS]{"city": "Rome"}', ROME),
    (
        "mistral",
        '[TOOL_CALLS]weather{"city": "Rome"}[TOOL_CALLS]weather{"city": "Oslo"}',
        [*ROME, ("weather", {"city": "Oslo"}, "")],
    ),
]


@pytest.mark.parametrize(("name", "text", "expected"), READ)
def test_a_call_is_read(name: str, text: str, expected: list[tuple[str, Any, str]]) -> None:
    _, calls = made_calls(text, as_tools([weather]), FORMATS[name], 0)
    assert [(call.name, call.arguments, call.error) for call in calls] == expected
    assert [call.id for call in calls] == [f"call{n:05d}" for n in range(len(calls))]


BAD = [
    ("hermes", "<tool_call>not json</tool_call>", "it is no JSON"),
    ("hermes", '<tool_call>{"name": "weather", "argu', "the answer ended within it"),
    ("hermes", "<tool_call>[1]</tool_call>", "must be an object with a name"),
    ("hermes", '<tool_call>{"arguments": {}}</tool_call>', "it has no name"),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {}} more</tool_call>', "text follows"),
    (
        "hermes",
        '<tool_call>{"name": "format_disk", "arguments": {}}</tool_call>',
        "there is no tool",
    ),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {}}</tool_call>',
        "'city' is a required",
    ),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": 7}}</tool_call>',
        "7 is not of type 'string'",
    ),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "x", "__class__": 1}}</tool_call>',
        "Additional properties are not allowed",
    ),
    ("hermes", '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>', "must be an object"),
    ("hermes", '<tool_call>{"name": "weather", "arguments": NaN}</tool_call>', "NaN is no number"),
    ("hermes", "<tool_call>" + "[" * 90_000 + "</tool_call>", "it is no JSON"),
    ("hermes", "<tool_call>" + " " * 100_001 + "{}x", "text follows|no name"),
    ("hermes", '<tool_call>{"name": "' + "x" * 100_001 + '"}</tool_call>', "is longer than"),
    ("llama3", "<|python_tag|>import os; os.system('id')", "it is no JSON"),
    ("llama3", "<|python_tag|>", "it is empty"),
    ("llama3", "<|python_tag|>weather.call('Rome')", "must be passed by name"),
    ("llama3", "<|python_tag|>weather.call(city=__import__('os'))", "cannot be read"),
    ("llama3", "<|python_tag|>weather.call(city=)", "cannot be read"),
    ("llama3", "<|python_tag|>weather.call(**{'city': 'x'})", "None|Additional properties|city"),
    ("mistral", "[TOOL_CALLS] nothing", "it is no JSON"),
    ("mistral", '[TOOL_CALLS] {"name": "weather"}', "must be a list"),
    ("mistral", '[TOOL_CALLS] [{"name": "weather"}, 3]', "required"),
    ("mistral", '[TOOL_CALLS]weather{"city": "Rome"} and', "text follows"),
]


@pytest.mark.parametrize(("name", "text", "complaint"), BAD)
def test_a_call_that_is_not_right_is_kept_with_its_complaint(
    name: str, text: str, complaint: str
) -> None:
    _, calls = made_calls(text, as_tools([weather]), FORMATS[name], 0)
    assert not calls[0].valid
    assert any(part in calls[0].error for part in complaint.split("|")), calls[0].error


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", "I could call <tool> but I do not. {}"),
        ("llama3", 'Here is JSON: {"name": "weather", "parameters": {}}'),
        ("llama3", '{"weather": "fine"}'),
        ("llama3", "{not json"),
        ("mistral", "TOOL_CALLS are fine"),
    ],
)
def test_text_that_is_no_call_stays_text(name: str, text: str) -> None:
    assert made_calls(text, as_tools([weather]), FORMATS[name], 0) == (text, ())


def test_what_stands_beside_calls_is_the_content() -> None:
    text = ' Let me see. <tool_call>{"name": "weather", "arguments": {"city": "x"}}</tool_call> \n'
    content, (call,) = made_calls(text, as_tools([weather]), FORMATS["hermes"], 41)
    assert content == "Let me see."
    assert call.id == "call00041"


@given(
    st.lists(
        st.sampled_from(
            [
                "<tool_call>",
                "</tool_call>",
                "[TOOL_CALLS]",
                "<|python_tag|>",
                "[ARGS]",
                "{",
                "}",
                '"name"',
                ":",
                '"weather"',
                ",",
                "[",
                "]",
                '"arguments"',
                "x",
                " ",
                ";",
                ".call(",
            ]
        ),
        max_size=20,
    ).map("".join),
    st.sampled_from(sorted(FORMATS)),
)
def test_reading_never_fails(text: str, name: str) -> None:
    content, calls = made_calls(text, as_tools([weather]), FORMATS[name], 0)
    assert isinstance(content, str)
    assert all(call.valid is not bool(call.error) for call in calls)


@pytest.mark.parametrize(
    ("template", "name"), [(HERMES, "hermes"), (LLAMA3, "llama3"), (MISTRAL, "mistral")]
)
def test_the_format_is_told_from_the_template(template: str, name: str) -> None:
    assert format_of(template).name == name


def test_calls_in_xml_are_not_taken_for_json() -> None:
    with pytest.raises(ToolError, match="no known way"):
        format_of("<tool_call><function=name>")


def test_a_template_that_tells_of_no_known_format_needs_help(tmp_path: Path) -> None:
    template = "{{ tools }}{{ messages[0].content }}"
    with tiny_engine(tmp_path, TinyModel(chat_template=template)) as engine:
        with pytest.raises(ToolError, match="tells of no known way") as caught:
            engine.chat(options=ChatOptions(tools=[weather]))
        assert caught.value.reason is ReasonCode.TOOLS_UNSUPPORTED
        with pytest.raises(ToolError, match="one of mistral, hermes, llama3"):
            engine.chat(options=ChatOptions(tools=[weather], tool_format="other"))
        engine.chat(options=ChatOptions(tools=[weather], tool_format="hermes"))


def test_a_template_without_tools_says_so(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, TinyModel(chat_template=SMOLLM2)) as engine:
        chat = engine.chat()
        with pytest.raises(ToolError, match="says nothing of tools"):
            chat.send("hello", tools=[weather])
        assert chat.messages == ()
