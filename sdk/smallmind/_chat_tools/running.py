"""Carrying out one call: whatever a tool does, the model gets an answer and the host goes on."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from smallmind._chat_tools.calls import ToolCall, ToolResult
from smallmind._chat_tools.tool import Tool
from smallmind_engine.telemetry import Emitter, LogLevel, ReasonCode, RuntimeLoggerAdapter

Executor = Callable[[ToolCall], object]
"""Carries out a call that was checked, and answers with text or what JSON can hold."""

AsyncExecutor = Callable[[ToolCall], object | Awaitable[object]]
"""As ``Executor``; it may be async."""

AsyncApproval = Callable[[ToolCall], bool | Awaitable[bool]]
"""Says whether a call may be carried out; it may be async."""

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
    attempt = _Attempt(call, tools, clock)
    try:
        if attempt.may_run and (approve is None or approve(call)):
            attempt.content = _text_of(attempt.function_or(executor)())
    except Exception as error:  # noqa: BLE001 - a foreign function: the model hears of it
        attempt.failure = error
    return attempt.told(emitter)


async def arun_call(
    call: ToolCall,
    tools: Mapping[str, Tool],
    emitter: Emitter,
    *,
    executor: AsyncExecutor | None = None,
    approve: AsyncApproval | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ToolResult:
    """As ``run_call``, for asyncio: what is async is awaited, all else runs in a thread.

    Cancelling the task cancels what is awaited; a function in a thread goes on to its end, and
    nobody waits for it.
    """
    attempt = _Attempt(call, tools, clock)
    try:
        if attempt.may_run and (approve is None or await _awaited(partial(approve, call))):
            answer = await _awaited(attempt.function_or(executor))
            attempt.content = await asyncio.to_thread(_text_of, answer)
    except Exception as error:  # noqa: BLE001 - as above
        attempt.failure = error
    return attempt.told(emitter)


class _Attempt:
    """One call under way, and what came of it."""

    def __init__(
        self, call: ToolCall, tools: Mapping[str, Tool], clock: Callable[[], float]
    ) -> None:
        self._call = call
        self._tools = tools
        self._clock = clock
        self._begun = clock()
        self.content: str | None = None
        self.failure: Exception | None = None

    @property
    def may_run(self) -> bool:
        """Whether it is a call that its tool takes."""
        return self._call.valid

    def function_or(self, executor: Callable[[ToolCall], object] | None) -> Callable[[], object]:
        """What carries the call out."""
        if executor is not None:
            return partial(executor, self._call)
        tool = self._tools[self._call.name]
        if tool.function is None:
            raise LookupError(f"the tool {tool.name!r} has no function, and there is no executor")
        return partial(tool.function, **self._call.arguments)

    def told(self, emitter: Emitter) -> ToolResult:
        """The result, which the log hears of as well."""
        call, failure = self._call, self.failure
        duration_s = self._clock() - self._begun
        reason = ReasonCode.TOOL_FAILED
        if failure is not None:
            content = _error(f"{type(failure).__name__}: {failure}")
        elif not call.valid:
            reason, content = ReasonCode.TOOL_CALL_INVALID, _error(call.error)
        else:
            content = _error("the call was not approved")
        well = failure is None and self.content is not None
        if self.content is not None and well:
            content = self.content
        failed = {} if failure is None else {"detail": "its text is in the tool's message"}
        RuntimeLoggerAdapter("tools", emitter).log(
            LogLevel.INFO if well else LogLevel.WARN,
            "tool called" if well else "tool call failed",
            reason=None if well else reason,
            error=failure,
            tool=call.name,
            call_id=call.id,
            duration_s=round(duration_s, 6),
            **failed,  # what a tool complains of may quote a conversation
        )
        return ToolResult(
            call=call, content=_shortened(content), error=not well, duration_s=duration_s
        )


async def _awaited(function: Callable[[], object]) -> object:
    """What a function gives, be it async or not."""
    inner = function.func if isinstance(function, partial) else function
    if inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(
        getattr(inner, "__call__", None)  # noqa: B004 - an object with an async __call__
    ):
        answer = function()
    else:
        answer = await asyncio.to_thread(function)
    return await answer if inspect.isawaitable(answer) else answer


def _text_of(answer: object) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _error(why: str) -> str:
    return json.dumps({"error": why}, ensure_ascii=False)


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_ANSWER:
        return text
    left_out = len(text) - _LONGEST_ANSWER
    return f"{text[:_LONGEST_ANSWER]}… ({left_out} more characters were left out)"
