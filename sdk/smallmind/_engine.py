"""The engine: a loaded model that many threads may use at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, Unpack

from smallmind._async import Doorbell, acollect, astream_chunks
from smallmind._chat import ChatClient
from smallmind._chat_options import ChatOptions
from smallmind._engine_work import EngineWork
from smallmind._request_options import RequestKwargs, merged
from smallmind._session import Session
from smallmind_engine.memory import BudgetUsage, MemoryPlan
from smallmind_engine.model import LoadedModel
from smallmind_engine.runtime import (
    DEFAULT_BUFFERED_TOKENS,
    EngineCore,
    EngineStats,
    GenerationOptions,
    GenerationRequest,
    GenerationResult,
    GenerationRun,
    StreamChunk,
    TokenStream,
)
from smallmind_engine.runtime.collect import collected, open_stream
from smallmind_engine.telemetry import EventBus, Exporter, ExporterHealth, FlushResult, ReasonCode
from smallmind_engine.telemetry.errors import ExporterError


class Engine(EngineWork):
    """Thread-safe: share one engine, and make a session for each conversation.

    Made by ``smallmind.load``. Use it in a ``with`` block, or call ``close``.

    Args:
        core: the engine's parts.
        owned: exporters to close with the engine, by name.
        attached: exporters that belong to the caller, by name.
    """

    def __init__(
        self, core: EngineCore, owned: Mapping[str, Exporter], attached: Mapping[str, Exporter]
    ) -> None:
        super().__init__(core)
        self._owned = dict(owned)
        self._exporters = {**attached, **owned}

    # -- generation ---------------------------------------------------------------------------

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> GenerationResult:
        """Continue a prompt.

        Args:
            prompt: text, or token ids that are taken as they are.
            options: see ``GenerationOptions``.
            kwargs: the same, one by one; they win over ``options``.

        Returns:
            The completion. A request that was cancelled or timed out returns what it had.

        Raises:
            ConfigError: an option, or the prompt, cannot be used.
            ContextOverflowError: the prompt does not fit the context.
            BackpressureError: the queue is full.
            MemoryBudgetError: the KV cache does not fit the budget.
            InferenceError: the model failed.
            ClosedError: the engine is closed.
        """
        return collected(self._run(prompt, merged(options, kwargs), streaming=False))

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> TokenStream:
        """Continue a prompt, chunk by chunk; arguments and errors as in ``generate``.

        Each token is computed when the reader comes back for it; with ``max_buffered_tokens`` the
        work goes on ahead of the reader.
        """
        chosen = merged(options, kwargs)
        return open_stream(self._run(prompt, chosen, streaming=True))

    async def agenerate(
        self,
        prompt: str | Sequence[int],
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> GenerationResult:
        """As ``generate``, for asyncio: cancelling the task stops the request."""
        chosen, bell = merged(options, kwargs), Doorbell()
        run = self._run(prompt, chosen, streaming=False, on_ready=bell.ring)
        return await acollect(run, bell, chosen.on_token)

    async def astream(
        self,
        prompt: str | Sequence[int],
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> AsyncIterator[StreamChunk]:
        """As ``stream``, for asyncio: leaving the loop or cancelling the task stops it."""
        chosen, bell = merged(options, kwargs), Doorbell()
        run = self._run(prompt, chosen, streaming=True, on_ready=bell.ring)
        async with aclosing(astream_chunks(run, bell, chosen.on_token)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _run(
        self,
        prompt: str | Sequence[int],
        options: GenerationOptions,
        *,
        streaming: bool,
        on_ready: Callable[[], None] | None = None,
    ) -> GenerationRun:
        request = GenerationRequest(
            prompt=prompt,
            options=options,
            streaming=streaming,
            default_buffer=0 if on_ready is None else DEFAULT_BUFFERED_TOKENS,
        )
        return GenerationRun(self._core, request, on_ready)

    # -- conversations ------------------------------------------------------------------------

    def session(self, session_id: str | None = None) -> Session:
        """A sequence that keeps its KV cache between calls.

        Args:
            session_id: appears on all its events; made up when None.
        """
        return Session(self._core, session_id)

    def chat(self, system: str | None = None, *, options: ChatOptions | None = None) -> ChatClient:
        """A conversation in the model's own chat format.

        Args:
            system: instructions before the first turn.
            options: see ``ChatOptions``; ``system`` wins over the one in there.

        Raises:
            ChatTemplateError: there is no template, and ``strict_template`` asks for one.
            ToolError: a tool cannot be described, or the model's format knows no tools.
            ChatStoreError: the store cannot be read.
        """
        return ChatClient(self._core, system, options or ChatOptions())

    # -- tokens -------------------------------------------------------------------------------

    def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Token ids of ``text``."""
        self._core.check_open()
        return self._core.model.tokenizer.encode(
            text, add_special=add_special, parse_special=parse_special
        )

    def detokenize(self, token_ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of ``token_ids``.

        Raises:
            TokenizerError: an id is outside the vocabulary.
        """
        self._core.check_open()
        return self._core.model.tokenizer.decode(token_ids, skip_special=skip_special)

    # -- what it is and how it fares ----------------------------------------------------------

    @property
    def model(self) -> LoadedModel:
        """What is known of the model."""
        return self._core.model

    @property
    def backend(self) -> str:
        """What computes."""
        return self._core.model.runner.backend

    @property
    def bus(self) -> EventBus:
        """Where events are published; subscribe exporters of your own."""
        return self._core.bus

    @property
    def memory(self) -> tuple[BudgetUsage, ...]:
        """Reserved memory by category, now and at most."""
        return self._core.budget.usage()

    @property
    def memory_plan(self) -> MemoryPlan:
        """What was planned to be taken, the limit it was held against, and what was given up."""
        return self._core.model.memory_plan

    @property
    def kv_tokens(self) -> tuple[int, int]:
        """Tokens in the KV caches, and tokens that they have room for."""
        return self._core.kv_store.usage()

    def stats(self) -> EngineStats:
        """What the engine does now, and has done since it was loaded."""
        return self._core.stats()

    @property
    def exporter_health(self) -> tuple[ExporterHealth, ...]:
        """How each exporter fares."""
        return self._core.bus.health()

    def exporter(self, name: str) -> Exporter:
        """An exporter of this engine.

        Raises:
            ExporterError: it has none of that name.
        """
        if name not in self._exporters:
            raise ExporterError(
                ReasonCode.EXPORTER_UNKNOWN,
                f"this engine has no exporter {name!r};"
                f" it has: {', '.join(self._exporters) or 'none'}",
                exporter=name,
            )
        return self._exporters[name]

    def flush(self, timeout_s: float = 5.0) -> dict[str, FlushResult]:
        """Pass all events on to their sinks; answers by exporter what became of them."""
        return self._core.bus.flush(timeout_s)

    def drain(self, timeout_s: float | None = None) -> bool:
        """Take no new requests from now on, and let those there are come to their end.

        Args:
            timeout_s: how long to wait for that; None for as long as it takes.

        Returns:
            Whether all have ended. ``close`` stops those that have not.
        """
        return self._core.drain(timeout_s)

    def close(self, flush_timeout_s: float = 2.0) -> None:
        """Stop all requests within a step and let go of everything. May be called again."""
        if self._core.closed:
            return
        self._core.close()
        self._core.bus.flush(flush_timeout_s)
        self._core.bus.close()
        for exporter in self._owned.values():
            exporter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
