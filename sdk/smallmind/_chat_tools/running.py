"""Carrying out one call: whatever a tool does, the model gets an answer and the host goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Final

from smallmind._chat_tools.calls import ToolCall, ToolResult
from smallmind._chat_tools.tool import Tool
from smallmind_engine.telemetry import Emitter, LogLevel, ReasonCode, RuntimeLoggerAdapter

Executor = Callable[[ToolCall], object]
"""Carries out a call that was checked, and answers with text or what JSON can hold."""

_LONGEST_ANSWER: Final = 16_000
"""Characters of a tool's answer that the model gets to see."""


def run_call(
    call: ToolCall,
    tools: Mapping[str, Tool],
    emitter: Emitter,
    *,
    executor: Executor | None = None,
    approve: Callable[[ToolCall], bool] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ToolResult:
    """Carry out a call, and tell of it in a log line.

    Args:
        call: that a model made.
        tools: by name.
        emitter: of the answer that made the call.
        executor: carries it out in place of the tool's own function.
        approve: asked before; a call that it refuses is not carried out.
        clock: seconds.

    Returns:
        The tool's answer, or what went wrong.
    """
    begun = clock()
    reason: ReasonCode | None = None
    failure: Exception | None = None
    if not call.valid:
        reason, content = ReasonCode.TOOL_CALL_INVALID, _error(call.error)
    else:
        try:
            if approve is not None and not approve(call):
                reason, content = ReasonCode.TOOL_FAILED, _error("the call was not approved")
            else:
                content = _shortened(_text_of(_carried_out(call, tools[call.name], executor)))
        except Exception as error:  # noqa: BLE001 - a foreign function: the model hears of it
            reason, failure = ReasonCode.TOOL_FAILED, error
            content = _shortened(_error(f"{type(error).__name__}: {error}"))
    duration_s = clock() - begun
    failed = {} if failure is None else {"detail": "its text is in the tool's message"}
    RuntimeLoggerAdapter("tools", emitter).log(
        LogLevel.INFO if reason is None else LogLevel.WARN,
        "tool called" if reason is None else "tool call failed",
        reason=reason,
        error=failure,
        tool=call.name,
        call_id=call.id,
        duration_s=round(duration_s, 6),
        **failed,  # what a tool complains of may quote a conversation
    )
    return ToolResult(call=call, content=content, error=reason is not None, duration_s=duration_s)


def _carried_out(call: ToolCall, tool: Tool, executor: Executor | None) -> object:
    if executor is not None:
        return executor(call)
    if tool.function is None:
        raise LookupError(f"the tool {tool.name!r} has no function, and there is no executor")
    return tool.function(**call.arguments)


def _text_of(answer: object) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _error(why: str) -> str:
    return json.dumps({"error": why}, ensure_ascii=False)


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_ANSWER:
        return text
    left_out = len(text) - _LONGEST_ANSWER
    return f"{text[:_LONGEST_ANSWER]}… ({left_out} more characters were left out)"
