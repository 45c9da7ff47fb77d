"""What a turn of a conversation gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from smallmind._chat_tools import ToolCall
from smallmind_engine.runtime import GenerationResult, StreamChunk, TokenStream
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import InferenceError


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatResult(GenerationResult):
    """An answer: all that a ``GenerationResult`` has, and how it stands in the conversation.

    Attributes:
        content: the answer without the calls of tools in it.
        tool_calls: what the model wants to be called.
        turn: place of the turn in the conversation, from 0; None when the turn was not kept.
        left_out_turns: oldest turns that did not go into the prompt.
        summarized: whether a summary stood for them.
        template: name of the chat template.
    """

    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    turn: int | None = None
    left_out_turns: int = 0
    summarized: bool = False
    template: str = ""


def chat_result(result: GenerationResult, **more: object) -> ChatResult:
    """``result`` as a ``ChatResult``; ``more`` are the fields that it has not."""
    fields = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return ChatResult(**fields, **more)  # type: ignore[arg-type]  # the fields of a dataclass


def whole(result: ChatResult | None) -> ChatResult:
    """The result of a run that ended."""
    if result is None:
        raise InferenceError(ReasonCode.ERROR, "the request ended without a result")
    return result


class ChatStream:
    """Chunks of an answer as it comes; ``result`` is there when it ended.

    Leaving the ``with`` block, ``close``, or dropping the stream stops the answer; what was said
    until then stays in the conversation. Belongs to one thread at a time.

    Args:
        chunks: the answer.
        result: what came out, as far as it has.
    """

    def __init__(self, chunks: TokenStream, result: Callable[[], ChatResult | None]) -> None:
        self._chunks = chunks
        self._result = result

    @property
    def result(self) -> ChatResult | None:
        """The whole answer; None while it is not complete, or when there was none."""
        return self._result()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamChunk:
        return next(self._chunks)

    def close(self) -> None:
        """Stop the answer. May be called again."""
        self._chunks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
