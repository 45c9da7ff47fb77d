"""A session: one sequence that keeps its KV cache between calls."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, Unpack

from smallmind._async import Doorbell, acollect, astream_chunks
from smallmind._guarded_stream import guarded
from smallmind._request_options import RequestKwargs, merged
from smallmind_engine.control import SingleUseGuard
from smallmind_engine.runtime import (
    DEFAULT_BUFFERED_TOKENS,
    TEXT_COMPLETION,
    CacheSlot,
    EngineCore,
    GenerationOptions,
    GenerationRequest,
    GenerationResult,
    GenerationRun,
    StreamChunk,
    TokenStream,
)
from smallmind_engine.runtime.collect import collected, open_stream
from smallmind_engine.telemetry.errors import ClosedError, ConcurrentSessionUseError
from smallmind_engine.telemetry.reasons import ReasonCode


class Session:
    """Not thread-safe: one thread at a time; a second gets ``ConcurrentSessionUseError`` at once.

    Each call continues what the calls before have left: their prompts and completions. Its cache
    is kept until ``close``, or until nothing refers to it any more.

    Args:
        core: the engine's parts.
        session_id: appears on all its events; made up when None.
    """

    def __init__(self, core: EngineCore, session_id: str | None = None) -> None:
        core.check_open()
        self._core = core
        self._session_id = session_id or f"session-{uuid.uuid4().hex[:12]}"
        self._guard = SingleUseGuard(f"session {self._session_id!r}")
        self._slot = CacheSlot()
        self._history: list[int] = []
        self._closed = False

    @property
    def session_id(self) -> str:
        """The id on its events."""
        return self._session_id

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens of the conversation so far."""
        return tuple(self._history)

    @property
    def cached_tokens(self) -> int:
        """Tokens that the next call need not compute again."""
        return len(self._slot.token_ids)

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> GenerationResult:
        """Continue the conversation with ``prompt``; see ``Engine.generate``.

        Raises:
            ConcurrentSessionUseError: another thread, or an unfinished stream, is in it.
        """
        with self._guard():
            run = self.new_run(prompt, merged(options, kwargs), streaming=False)
            try:
                return collected(run)
            finally:
                self._remember(run)

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> TokenStream:
        """As ``generate``, chunk by chunk; the session is in use until the stream ends."""
        chosen = merged(options, kwargs)
        self._guard.enter()
        run = None
        try:
            run = self.new_run(prompt, chosen, streaming=True)
            return guarded(run, open_stream(run), lambda: self._end_stream(run))
        except BaseException:
            if run is not None:
                run.close()
            self._guard.leave()
            raise

    async def agenerate(
        self,
        prompt: str | Sequence[int],
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> GenerationResult:
        """As ``generate``, for asyncio."""
        chosen = merged(options, kwargs)
        with self._guard():
            bell = Doorbell()
            run = self.new_run(prompt, chosen, streaming=False, on_ready=bell.ring)
            try:
                return await acollect(run, bell, chosen.on_token)
            finally:
                self._remember(run)

    async def astream(
        self,
        prompt: str | Sequence[int],
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> AsyncIterator[StreamChunk]:
        """As ``stream``, for asyncio."""
        chosen = merged(options, kwargs)
        with self._guard():
            bell = Doorbell()
            run = self.new_run(prompt, chosen, streaming=True, on_ready=bell.ring)
            try:
                async with aclosing(astream_chunks(run, bell, chosen.on_token)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                self._remember(run)

    def new_run(
        self,
        prompt: str | Sequence[int],
        options: GenerationOptions,
        *,
        streaming: bool,
        prefix_ids: Sequence[int] | None = None,
        add_special: bool | None = None,
        operation: str = TEXT_COMPLETION,
        on_ready: Callable[[], None] | None = None,
    ) -> GenerationRun:
        """A run in this session, not begun; for those who build on sessions.

        Args:
            prompt: text or token ids.
            options: how.
            streaming: whether the caller reads chunk by chunk.
            prefix_ids: tokens before the prompt; the whole conversation so far when None.
            add_special: whether to begin with the model's first token; only at the beginning
                of the conversation when None.
            operation: ``text_completion`` or ``chat``.
            on_ready: rung by the scheduler for who polls the run.
        """
        self._check_open()
        prefix = self._history if prefix_ids is None else prefix_ids
        return GenerationRun(
            self._core,
            GenerationRequest(
                prompt=prompt,
                options=options,
                slot=self._slot,
                prefix_ids=tuple(prefix),
                add_special=not prefix if add_special is None else add_special,
                session_id=self._session_id,
                operation=operation,
                streaming=streaming,
                default_buffer=0 if on_ready is None else DEFAULT_BUFFERED_TOKENS,
            ),
            on_ready,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(ReasonCode.CLOSED, f"session {self._session_id!r} is closed")

    def fork(self, session_id: str | None = None) -> Session:
        """A second session that goes on from here; what was computed so far is shared.

        Args:
            session_id: appears on all its events; made up when None.

        Raises:
            ConcurrentSessionUseError: another thread, or an unfinished stream, is in this one.
            ClosedError: this session, or the engine, is closed.
        """
        with self._guard():
            self._check_open()
            other = Session(self._core, session_id)
            other._history = list(self._history)
            other._slot = self._core.kv_store.fork(self._slot, self._core.bus.emitter())
            return other

    def _remember(self, run: GenerationRun) -> None:
        """Keep what the run added; a run that was turned away adds nothing."""
        if run.result is not None and run.result.timings.prefill_tokens:
            self._history = run.sequence_ids

    def _end_stream(self, run: GenerationRun) -> None:
        self._remember(run)
        self._guard.leave()

    def reset(self) -> None:
        """Forget the conversation."""
        with self._guard():
            self._forget()

    def _forget(self) -> None:
        self._history = []
        self._core.kv_store.give_back(self._slot, keep=False)

    def close(self) -> None:
        """Let go of the cache. May be called again."""
        with self._guard():
            if not self._closed:
                self._closed = True
                self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except ConcurrentSessionUseError:
            if exc is None:  # else what came first is told; the cache goes with this object
                raise

    def __del__(self) -> None:
        # Not there where ``__init__`` has raised.
        if not getattr(self, "_closed", True):
            self._core.kv_store.abandon(self._slot)
