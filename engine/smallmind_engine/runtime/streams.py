"""Streams: what a caller iterates over while a request runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from smallmind_engine.runtime.generation import GenerationRun
from smallmind_engine.runtime.results import GenerationResult, StreamChunk


class TokenStream:
    """Chunks of a running request; ``result`` is there when it ended.

    Leaving the ``with`` block, ``close``, or dropping the stream stops the request. Belongs to
    one thread at a time.

    Args:
        run: the request.
        chunks: where its chunks come from.
        on_close: stops that source.
    """

    def __init__(
        self, run: GenerationRun, chunks: Iterator[StreamChunk], on_close: Callable[[], None]
    ) -> None:
        self._run = run
        self._chunks = chunks
        self._on_close = on_close

    @property
    def result(self) -> GenerationResult | None:
        """What came out; None while the request runs."""
        return self._run.result

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamChunk:
        return next(self._chunks)

    def close(self) -> None:
        """Stop the request. May be called again."""
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._run.abandon()
        self.close()
