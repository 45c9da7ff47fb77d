"""What a question to a pipeline gives back: an answer, or a stream that ends in one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from smallmind._chat_result import ChatStream
from smallmind.rag._citations import Citation, cited
from smallmind.rag._results import RetrievalResult
from smallmind_engine.runtime import GenerationResult, StreamChunk
from smallmind_engine.telemetry import Correlation, StopReason


@dataclass(frozen=True, slots=True)
class RagAnswer:
    """An answer and what it stands on.

    Attributes:
        text: of the model; the part until then when it was stopped.
        citations: the sources that it cites, in the order of their first mark.
        unknown_marks: marks in the text that stand for no source: the model made them up.
        sources: all that were in the prompt.
        retrieval: how they were found.
        result: of the generation, with its timings and counts.
    """

    text: str
    citations: tuple[Citation, ...]
    unknown_marks: tuple[str, ...]
    sources: tuple[Citation, ...]
    retrieval: RetrievalResult
    result: GenerationResult

    @property
    def stop_reason(self) -> StopReason:
        """Why the generation ended."""
        return self.result.stop_reason

    @property
    def correlation(self) -> Correlation:
        """Ids that all events, log lines and spans of the question carry."""
        return self.result.correlation


def answer_of(
    result: GenerationResult, sources: tuple[Citation, ...], retrieval: RetrievalResult
) -> RagAnswer:
    """A result with the sources that its text cites."""
    citations, unknown = cited(result.text, sources)
    return RagAnswer(result.text, citations, unknown, sources, retrieval, result)


class RagStream:
    """An answer as it comes. Belongs to one thread at a time.

    Leaving the ``with`` block, ``close``, or dropping the stream stops the request.

    Args:
        inner: the stream of the generation.
        sources: that are in the prompt.
        retrieval: how they were found.
        on_end: lets go of the conversation.
    """

    def __init__(
        self,
        inner: ChatStream,
        sources: tuple[Citation, ...],
        retrieval: RetrievalResult,
        on_end: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._on_end = on_end
        self.sources = sources
        self.retrieval = retrieval

    @property
    def answer(self) -> RagAnswer | None:
        """The whole answer; None while it comes."""
        result = self._inner.result
        return None if result is None else answer_of(result, self.sources, self.retrieval)

    def __iter__(self) -> Iterator[StreamChunk]:
        try:
            yield from self._inner
        finally:
            self.close()

    def close(self) -> None:
        """Stop it. May be called again."""
        self._inner.close()
        self._on_end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
