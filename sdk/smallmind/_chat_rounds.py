"""The rounds of a turn with tools: the model calls, tools answer, until the model has answered."""

from __future__ import annotations

from collections.abc import Sequence
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


class Rounds:
    """Where a turn with tools stands.

    Args:
        first: the model's first answer.
        most: how often tools answer at most.
    """

    def __init__(self, first: ChatResult, most: int) -> None:
        self._result = first
        self._most = most
        self._done: list[ToolResult] = []
        self._count = 0

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """What is to be carried out now; empty at the end.

        Nothing of an answer that was cancelled or timed out is carried out.
        """
        over = self._count >= self._most or self._stopped
        return () if over else tuple(self._result.tool_calls)

    def answered(self, results: Sequence[ToolResult], result: ChatResult) -> None:
        """Tools have answered, and the model has gone on."""
        self._done += results
        self._count += 1
        self._result = result

    @property
    def run(self) -> ToolRun:
        """What it came to."""
        return ToolRun(
            result=self._result,
            results=tuple(self._done),
            rounds=self._count,
            exhausted=bool(self._result.tool_calls) and not self._stopped,
        )

    @property
    def _stopped(self) -> bool:
        return status_of(self._result.stop_reason) is not RequestStatus.COMPLETED
