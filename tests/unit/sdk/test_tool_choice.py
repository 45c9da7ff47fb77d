"""Answers that must be calls of tools: whatever the model, their arguments fit the schemas."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_templates import HERMES, LLAMA3, MISTRAL
from engines import tiny_engine
from scripted_models import scripted
from smallmind import ChatOptions, Engine, StopReason
from smallmind.chat import Tool, ToolRun
from smallmind.structured import JsonObject
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError
from tiny_models import TinyModel

LLAMA3_TOKENS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>")
MISTRAL_TOKENS = ("[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]")
FAMILIES = {
    "hermes": (HERMES, ()),
    "hermes with tokens": (HERMES, ("<tool_call>", "</tool_call>")),
    "llama3": (LLAMA3, LLAMA3_TOKENS),
    "llama3 without tokens": (LLAMA3, ()),
    "mistral": (MISTRAL, MISTRAL_TOKENS),
}
CITY = {"type": "string", "minLength": 1, "maxLength": 8}
DAYS = {"type": "integer", "minimum": 1, "maximum": 9}


def _called(city: str, days: int = 1) -> str:
    return f"{city}: {days}"


weather = Tool(
    name="weather",
    parameters={
        "type": "object",
        "properties": {"city": CITY, "days": DAYS},
        "required": ["city"],
    },
    function=_called,
)
clock = Tool(name="clock", function=lambda: "noon")
DRAW = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 150}


def _model(family: str) -> TinyModel:
    template, tokens = FAMILIES[family]
    return TinyModel(
        "llama", scale=0.35, tied=False, chat_template=template, extra_tokens=tokens, context=4096
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_random_weights_calls_a_tool_as_its_schema_says(
    tmp_path: Path, family: str
) -> None:
    with tiny_engine(tmp_path, _model(family), backend="numpy") as engine:
        chat = engine.chat(options=ChatOptions(tools=[weather, clock]))
        for seed in range(2):
            result = chat.send("Weather?", tool_choice="required", seed=seed, **DRAW)
            assert result.stop_reason is StopReason.COMPLETED
            (call,) = result.tool_calls
            assert call.valid, call.error
            assert call.name in {"weather", "clock"}
            assert result.content == ""
            chat.clear()


def test_a_tool_that_is_named_is_the_one_that_is_called(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, _model("hermes"), backend="numpy") as engine:
        chat = engine.chat(options=ChatOptions(tools=[weather, clock]))
        named = chat.send("Weather?", tool_choice="weather", seed=1, **DRAW)
        (call,) = named.tool_calls
        assert (call.name, set(call.arguments) >= {"city"}) == ("weather", True)
        answered = chat.run_tools("And now?", tool_choice="clock", max_rounds=1, seed=2, **DRAW)
        assert [result.content for result in answered.results] == ["noon"]


def test_only_the_first_answer_must_be_a_call(tmp_path: Path) -> None:
    def talk(engine: Engine) -> ToolRun:
        chat = engine.chat(options=ChatOptions(tools=[weather]))
        return chat.run_tools(
            "Weather in Rome?", tool_choice="required", temperature=0.0, max_tokens=200
        )

    written = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    run = scripted(tmp_path, [written, "Sunny."], talk, chat_template=HERMES)
    assert [(result.call.arguments, result.content) for result in run.results] == [
        ({"city": "Rome"}, "Rome: 1")
    ]
    assert run.text == "Sunny."


def test_what_the_model_wants_to_say_otherwise_is_not_said(tmp_path: Path) -> None:
    def talk(engine: Engine) -> str:
        chat = engine.chat(options=ChatOptions(tools=[clock]))
        result = chat.send("Time?", tool_choice="clock", temperature=0.0, max_tokens=200)
        return result.tool_calls[0].name

    assert scripted(tmp_path, ["I do not know."], talk, chat_template=HERMES) == "clock"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tool_choice": "rain"}, "weather"),
        ({"tool_choice": "required", "tools": []}, "there are none"),
        ({"tool_choice": "required", "response_format": JsonObject()}, "response_format"),
    ],
)
def test_a_choice_that_cannot_be_kept_is_refused(
    tmp_path: Path, options: dict[str, object], named: str
) -> None:
    with tiny_engine(tmp_path, _model("hermes"), backend="numpy") as engine:
        chat = engine.chat(options=ChatOptions(tools=[weather]))
        with pytest.raises(ConfigError, match=named) as caught:
            chat.send("Weather?", **options)
        assert caught.value.reason is ReasonCode.OPTION_INVALID
        assert chat.turns == 0


def test_auto_leaves_it_to_the_model(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, _model("hermes"), backend="numpy") as engine:
        chat = engine.chat(options=ChatOptions(tools=[clock]))
        result = chat.send("Time?", tool_choice="auto", max_tokens=4)
    assert result.structured is None
