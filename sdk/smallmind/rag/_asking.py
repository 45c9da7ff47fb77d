"""Asking under asyncio: the work happens in a thread, and cancelling the task stops it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TypeVar

from smallmind_engine.control import CancellationToken

_T = TypeVar("_T")


async def in_thread(
    work: Callable[[CancellationToken], _T], parent: CancellationToken | None
) -> _T:
    """Run ``work`` in a thread, in a copy of the current context.

    Args:
        work: is given the token that stops it.
        parent: stops it as well.
    """
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    with CancellationToken(*(() if parent is None else (parent,))) as token:
        future = loop.run_in_executor(None, lambda: context.run(work, token))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            token.cancel()
            await asyncio.wait((future,))
            if not future.cancelled():
                future.exception()  # it was stopped; nobody asks why
            raise
