"""Making sure that a model calls a tool: its answer is held to the form of a call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from smallmind._chat_tools.formats import ToolFormat
from smallmind._chat_tools.tool import Tool
from smallmind_engine.grammar import Forms, JsonSchema
from smallmind_engine.runtime import GenerationOptions
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ConfigError

AUTO: Final = "auto"
REQUIRED: Final = "required"


def held_to_calls(
    options: GenerationOptions,
    tools: Sequence[Tool],
    how: ToolFormat | None,
    choice: str | None,
) -> GenerationOptions:
    """Options with which the answer is what ``choice`` asks for.

    Args:
        options: of the request.
        tools: that the model may call.
        how: it writes calls; None without tools.
        choice: None or ``auto`` leaves it to the model, ``required`` asks for a call of any tool,
            and a name for one of that tool.

    Raises:
        ConfigError: there is no such tool, or the answer is held to something else already.
    """
    if choice is None or choice == AUTO:
        return options
    chosen = [tool for tool in tools if choice in {REQUIRED, tool.name}]
    if how is None or not chosen:
        names = ", ".join(tool.name for tool in tools) or "there are none"
        raise _invalid(choice, f"{AUTO}, {REQUIRED} or the name of a tool ({names})")
    if options.response_format is not None:
        raise _invalid(choice, f"{AUTO} with a response_format, which is for the same answer")
    forms = tuple(_form(tool, how) for tool in chosen)
    return dataclasses.replace(options, response_format=Forms(forms))


def _form(tool: Tool, how: ToolFormat) -> tuple[str | JsonSchema, ...]:
    # A function would refuse arguments that it does not name.
    schema = JsonSchema({"additionalProperties": False, **tool.parameters})
    before, after = how.around_arguments(tool.name)
    return (before, schema, after)


def _invalid(choice: str, allowed: str) -> ConfigError:
    return ConfigError(
        ReasonCode.OPTION_INVALID,
        f"tool_choice is {choice!r}; it must be {allowed}",
        option="tool_choice",
        value=choice,
    )
