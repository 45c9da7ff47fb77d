"""Streams: what a caller iterates over while a request runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from smallmind_engine.control import SingleUseGuard
from smallmind_engine.runtime.generation import GenerationRun
from smallmind_engine.runtime.results import GenerationResult, StreamChunk


class TokenStream:
    """Chunks of a running request; ``result`` is there when it ended.

    Leaving the ``with`` block, ``close``, or dropping the stream stops the request.

    Not thread-safe: one thread at a time; a second gets ``ConcurrentSessionUseError`` at once. To
    stop it from another thread, cancel its token.

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
        self._guard = SingleUseGuard(f"the stream of request {run.correlation.request_id!r}")

    @property
    def result(self) -> GenerationResult | None:
        """What came out; None while the request runs."""
        return self._run.result

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamChunk:
        guard = self._guard
        guard.enter()
        try:
            return next(self._chunks)
        finally:
            guard.leave()

    def close(self) -> None:
        """Stop the request. May be called again, and by a callback of this very stream.

        Raises:
            ConcurrentSessionUseError: another thread is reading.
        """
        if self._guard.is_here:
            self._on_close()
            return
        with self._guard():
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
        try:
            self._run.abandon()
            self._on_close()
        except KeyboardInterrupt:  # in the midst of it, and nobody else will stop the request
            self._on_close()
            raise
