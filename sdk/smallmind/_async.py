"""Requests under asyncio: the scheduler's thread does the work, and the loop is never blocked."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial

from smallmind_engine.runtime import GenerationResult, GenerationRun, StreamChunk

OnToken = Callable[[StreamChunk], None]


class Doorbell:
    """Wakes a coroutine from another thread; rung by the scheduler, so it never blocks or raises.

    Belongs to the loop that runs when it is made.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """There is something to get."""
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self) -> None:
        """Wait until it rang since the last time."""
        await self._rung.wait()
        self._rung.clear()


async def acollect(
    run: GenerationRun, bell: Doorbell, on_token: OnToken | None
) -> GenerationResult:
    """Run to the end; arguments as in ``astream_chunks``."""
    async with aclosing(astream_chunks(run, bell, on_token)) as chunks:
        async for _ in chunks:
            pass
    return run.finished()


async def astream_chunks(
    run: GenerationRun, bell: Doorbell, on_token: OnToken | None
) -> AsyncGenerator[StreamChunk, None]:
    """Chunks of a run, by the bounded buffer that other streams have too.

    Cancelling the task, or leaving the loop, stops the run within a step and waits for that.

    Args:
        run: not begun.
        bell: rung by the run.
        on_token: called in a thread, since it may block.
    """
    try:
        await _in_thread(run, run.begin)
        while True:
            chunk, ended = run.poll()
            if ended:
                return
            if chunk is None:
                await bell.wait()
                continue
            if on_token is not None and chunk.token_id is not None:
                await _in_thread(run, partial(on_token, chunk))
            yield chunk
    except (asyncio.CancelledError, GeneratorExit):
        await _ended(run, bell)
        raise
    except BaseException as error:
        await _in_thread(run, partial(run.stop, error))
        raise
    finally:
        run.cancel()  # when a loop is torn down, nothing above is awaited


async def _ended(run: GenerationRun, bell: Doorbell) -> None:
    """Stop a run and wait for its end, however often the task is cancelled meanwhile."""
    run.cancel()
    while not run.skip_to_end():
        with suppress(asyncio.CancelledError):
            await bell.wait()


async def _in_thread(run: GenerationRun, function: Callable[[], None]) -> None:
    """Call what may block; when the task is cancelled, stop the run and wait for the call."""
    loop = asyncio.get_running_loop()
    work = loop.run_in_executor(None, contextvars.copy_context().run, function)
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        run.cancel()
        await asyncio.wait((work,))
        if not work.cancelled():
            work.exception()  # or asyncio would complain that nobody has seen it
        raise
