"""Calls that a model made, held against the tools that there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from smallmind._chat_tools.formats import ToolFormat, WrittenCall
from smallmind._chat_tools.tool import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """What a model wants to be called.

    Attributes:
        id: of nine letters and digits, which some templates insist on; the n-th call of a
            conversation has the same id in every run.
        name: of the tool; empty when the call cannot be read.
        arguments: by name; checked against the tool's schema.
        error: why it must not be carried out; empty when it may be.
        text: as the model wrote it.
    """

    id: str
    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    error: str = ""
    text: str = ""

    @property
    def valid(self) -> bool:
        """Whether it may be carried out."""
        return not self.error

    @property
    def message_part(self) -> dict[str, object]:
        """The call in the form that chat templates know."""
        function = {"name": self.name, "arguments": dict(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What came of a call.

    Attributes:
        call: the call.
        content: for the model, JSON or plain text.
        error: whether ``content`` tells of a failure.
        duration_s: of the tool alone.
    """

    call: ToolCall
    content: str
    error: bool = False
    duration_s: float = 0.0

    @property
    def message(self) -> dict[str, object]:
        """The message that tells the model."""
        return {
            "role": "tool",
            "name": self.call.name,
            "tool_call_id": self.call.id,
            "content": self.content,
        }


def made_calls(
    text: str, tools: Sequence[Tool], how: ToolFormat, made_before: int
) -> tuple[str, tuple[ToolCall, ...]]:
    """The calls in an answer, and what else it says.

    Args:
        text: of the answer, control tokens written out.
        tools: that may be called.
        how: they are written.
        made_before: calls in the conversation until now.
    """
    content, written = how.read(text)
    by_name = {tool.name: tool for tool in tools}
    calls = tuple(
        _checked(each, by_name, f"call{made_before + place:05d}")
        for place, each in enumerate(written)
    )
    return content.strip() if calls else content, calls


def _checked(written: WrittenCall, tools: Mapping[str, Tool], call_id: str) -> ToolCall:
    arguments = written.arguments if isinstance(written.arguments, dict) else {}
    return ToolCall(
        id=call_id,
        name=written.name,
        arguments=arguments,
        error=_complaint(written, tools),
        text=written.text,
    )


def _complaint(written: WrittenCall, tools: Mapping[str, Tool]) -> str:
    if written.complaint:
        return f"the call cannot be read: {written.complaint}"
    tool = tools.get(written.name)
    if tool is None:
        return f"there is no tool {written.name!r}; there are: {', '.join(tools)}"
    if not isinstance(written.arguments, dict):
        return f"the arguments must be an object, not {json.dumps(written.arguments)[:80]}"
    return "; ".join(tool.complaints(written.arguments))
