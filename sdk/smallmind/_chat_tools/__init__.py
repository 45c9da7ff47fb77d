"""Tools that a model may call: their descriptions, the calls it makes, and carrying these out."""

from smallmind._chat_tools.calls import ToolCall, ToolResult, made_calls
from smallmind._chat_tools.choosing import held_to_calls
from smallmind._chat_tools.formats import FORMATS, ToolFormat, format_of
from smallmind._chat_tools.running import (
    AsyncApproval,
    AsyncExecutor,
    Executor,
    arun_call,
    run_call,
)
from smallmind._chat_tools.tool import Tool, ToolLike, as_tools

__all__ = [
    "FORMATS",
    "AsyncApproval",
    "AsyncExecutor",
    "Executor",
    "Tool",
    "ToolCall",
    "ToolFormat",
    "ToolLike",
    "ToolResult",
    "arun_call",
    "as_tools",
    "format_of",
    "held_to_calls",
    "made_calls",
    "run_call",
]
