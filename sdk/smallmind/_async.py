"""Requests under asyncio: the work happens in a thread, the loop is never blocked."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Final, ParamSpec, TypeVar

from smallmind_engine.runtime import (
    GenerationOptions,
    GenerationResult,
    GenerationRun,
    StreamBuffer,
    StreamChunk,
)
from smallmind_engine.runtime.collect import collected

DEFAULT_BUFFERED_TOKENS: Final = 64

_P = ParamSpec("_P")
_R = TypeVar("_R")


async def in_thread(work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Do something that may take a while in a thread.

    When the task is cancelled meanwhile, it is done to its end before the task goes on.
    """
    done = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait((done,))
        raise


async def acollect(run: GenerationRun) -> GenerationResult:
    """Run to the end in a thread; cancelling the task stops the run within a step."""
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    work = loop.run_in_executor(None, context.run, collected, run)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        run.cancel()
        await asyncio.wait((work,))
        raise


async def astream_chunks(
    run: GenerationRun, options: GenerationOptions
) -> AsyncIterator[StreamChunk]:
    """Chunks of a run that works ahead in a thread, by ``max_buffered_tokens`` at most."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(ready.set)

    buffer = StreamBuffer(
        run,
        options.max_buffered_tokens or DEFAULT_BUFFERED_TOKENS,
        options.backpressure,
        on_ready=wake,
    )
    buffer.start()
    try:
        while True:
            ready.clear()
            chunk, ended = buffer.poll()
            if chunk is not None:
                yield chunk
            elif ended:
                return
            else:
                await ready.wait()
    finally:
        await loop.run_in_executor(None, buffer.close)
