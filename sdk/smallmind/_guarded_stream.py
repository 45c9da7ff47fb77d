"""A stream that holds something (a session, a conversation) until it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from smallmind_engine.runtime import GenerationRun, StreamChunk, TokenStream


class GuardedStream(TokenStream):
    """Calls ``on_end`` exactly once: at the end, at ``close``, or when it is dropped.

    Args:
        run: the request.
        inner: its stream.
        on_end: lets go of what is held.
    """

    def __init__(self, run: GenerationRun, inner: TokenStream, on_end: Callable[[], None]) -> None:
        super().__init__(run, self._until_end(inner), self._close)
        self._inner = inner
        self._on_end: Callable[[], None] | None = on_end

    def _until_end(self, inner: TokenStream) -> Iterator[StreamChunk]:
        try:
            yield from inner
        finally:
            self._end()

    def _end(self) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    def _close(self) -> None:
        self._inner.close()
        self._end()

    def __del__(self) -> None:
        self._close()
