"""Keyword arguments of embedding, scoring and perplexity, and how work runs under asyncio."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Protocol, TypedDict, TypeVar

from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime.reading import Pooling, Truncation

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class WorkKwargs(TypedDict, total=False):
    """What all work has; see ``EmbeddingOptions``."""

    cancellation: CancellationToken | None
    request_timeout: float | None
    traceparent: str | None
    tracestate: str | None
    request_id: str | None


class EmbeddingKwargs(WorkKwargs, total=False):
    """The fields of ``EmbeddingOptions`` as keyword arguments; see there."""

    pooling: Pooling | str | None
    normalize: bool
    truncation: Truncation | str
    max_tokens: int | None
    on_progress: Callable[[int, int], None] | None


class ScoringKwargs(WorkKwargs, total=False):
    """The fields of ``ScoringOptions`` as keyword arguments; see there."""

    parse_special: bool


class PerplexityKwargs(WorkKwargs, total=False):
    """The fields of ``PerplexityOptions`` as keyword arguments; see there."""

    window: int | None
    stride: int | None
    on_progress: Callable[[int, int], None] | None


class Work(Protocol[T_co]):
    """Something that runs once, and can be stopped."""

    def run(self) -> T_co:
        """Do it."""
        ...

    def cancel(self) -> None:
        """Stop it within a step."""
        ...


async def arun(work: Work[T]) -> T:
    """Run in a thread; cancelling the task stops the work within a step."""
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    future = loop.run_in_executor(None, context.run, work.run)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        work.cancel()
        await asyncio.wait((future,))
        if not future.cancelled():
            future.exception()  # it was stopped; nobody asks why
        raise
