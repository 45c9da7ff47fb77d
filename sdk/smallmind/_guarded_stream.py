"""A stream that holds something (a session, a conversation) until it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from smallmind_engine.runtime import GenerationRun, StreamChunk, TokenStream


def guarded(run: GenerationRun, inner: TokenStream, on_end: Callable[[], None]) -> TokenStream:
    """Wrap ``inner`` so that ``on_end`` is called exactly once.

    That is at the end, at ``close``, or when the stream is dropped. Nothing here refers back to
    the stream, so that dropping it takes effect at once.

    Args:
        run: the request.
        inner: its stream.
        on_end: lets go of what is held.
    """
    pending = [on_end]

    def end() -> None:
        if pending:
            pending.pop()()

    def close() -> None:
        inner.close()
        end()

    return TokenStream(run, _until_end(inner, end), close)


def _until_end(inner: TokenStream, end: Callable[[], None]) -> Iterator[StreamChunk]:
    try:
        yield from inner
    finally:
        end()
