"""The rounds of a turn with tools: the model calls, tools answer, until the model has answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from smallmind._chat_result import ChatResult
from smallmind._chat_tools import ToolCall, ToolResult
from smallmind_engine.runtime import status_of
from smallmind_engine.telemetry import RequestStatus

DEFAULT_ROUNDS: Final = 8
"""How often tools answer in one turn at most, unless a caller says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRun:
    """A turn in which a model may have called tools.

    Attributes:
        result: the model's last answer.
        results: of all calls, in their order.
        rounds: how often tools answered.
        exhausted: whether the last answer still calls tools, and no round was left.
    """

    result: ChatResult
    results: tuple[ToolResult, ...]
    rounds: int
    exhausted: bool

    @property
    def text(self) -> str:
        """The last answer, without calls."""
        return self.result.content


def run_rounds(
    first: ChatResult,
    carry_out: Callable[[ToolCall], ToolResult],
    answer: Callable[[Sequence[ToolResult]], ChatResult],
    max_rounds: int,
) -> ToolRun:
    """Carry out calls and let the model go on, until it calls no more.

    Args:
        first: the model's first answer.
        carry_out: a call; never raises for what a tool does.
        answer: lets the model go on with the tools' answers.
        max_rounds: how often at most.
    """
    result = first
    done: list[ToolResult] = []
    rounds = 0
    while result.tool_calls and rounds < max_rounds:
        if status_of(result.stop_reason) is not RequestStatus.COMPLETED:
            break  # cancelled or timed out: nothing of it is carried out
        results = [carry_out(call) for call in result.tool_calls]
        done += results
        rounds += 1
        result = answer(results)
    stopped = status_of(result.stop_reason) is not RequestStatus.COMPLETED
    return ToolRun(
        result=result,
        results=tuple(done),
        rounds=rounds,
        exhausted=bool(result.tool_calls) and not stopped,
    )
