"""Chat: a conversation in the model's own format."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, Unpack

from smallmind._async import Doorbell, astream_chunks
from smallmind._chat_conversation import Conversation
from smallmind._chat_exchange import Exchange
from smallmind._chat_options import ChatOptions
from smallmind._chat_request import Plan
from smallmind._chat_result import ChatResult, ChatStream
from smallmind._chat_tool_turns import ToolTurns
from smallmind._chat_tools import ToolLike
from smallmind._guarded_stream import guarded
from smallmind._request_options import RequestKwargs, merged
from smallmind._session import Session
from smallmind._stores import ChatStore
from smallmind._threads import in_thread
from smallmind_engine.runtime import EngineCore, GenerationOptions, GenerationRun, StreamChunk
from smallmind_engine.runtime.collect import open_stream
from smallmind_engine.telemetry.errors import ConcurrentSessionUseError, invalid_option


class ChatClient(ToolTurns):
    """Not thread-safe: one thread at a time; a second gets ``ConcurrentSessionUseError`` at once.

    Args:
        core: the engine's parts.
        system: instructions before the first turn; win over those in ``options`` and a store.
        options: see ``ChatOptions``.
        session: takes its requests; a new one when None.

    Raises:
        ChatTemplateError: the model has no chat template, and ``strict_template`` asks for one.
        ToolError: a tool cannot be described, or the model's format knows no tools.
        ChatStoreError: the store cannot be read.
    """

    def __init__(
        self,
        core: EngineCore,
        system: str | None,
        options: ChatOptions,
        session: Session | None = None,
    ) -> None:
        session = session or Session(core, options.session_id)
        super().__init__(session, Exchange(core, options, session))
        self._core = core
        self._options = options
        instructions = system if system is not None else options.system
        if instructions is not None:
            known = self._exchange.conversation
            self._exchange.conversation = dataclasses.replace(known, system=instructions)

    # -- turns --------------------------------------------------------------------------------

    def send(
        self,
        text: str,
        *,
        replace: int | None = None,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatResult:
        """Say something and get the answer; options and errors as in ``Engine.generate``.

        An answer that was cut short stays in the conversation; a failed turn leaves no trace.

        Args:
            text: of the user.
            replace: turn in whose place to say it, from 0; it and those after it go when the
                answer comes.
            tools: that the model may call in this turn; those of ``ChatOptions`` when None.
            tool_choice: ``required`` for an answer that is a call, with arguments that the tool's
                schema allows; the name of a tool for a call of that one; ``auto`` or None to
                leave it to the model.
            options: see ``GenerationOptions``.
            kwargs: the same, one by one.

        Raises:
            ChatTemplateError: the template cannot render the conversation.
            ToolError: a tool cannot be described, or the model's format knows no tools.
            ContextOverflowError: not even the part that the history policy keeps fits.
            ChatStoreError: the turn is kept here, but could not be stored.
        """
        with self._guard():
            plan = self._planned(text, replace, tools, merged(options, kwargs), tool_choice)
            return self._collected(plan)

    def stream(
        self,
        text: str,
        *,
        replace: int | None = None,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatStream:
        """As ``send``, chunk by chunk; the conversation is in use until the stream ends."""
        chosen = merged(options, kwargs)
        self._guard.enter()
        try:
            plan = self._planned(text, replace, tools, chosen, tool_choice)
            run = self._exchange.run(plan, streaming=True)
            ended: list[ChatResult] = []
            chunks = guarded(run, open_stream(run), lambda: self._end(plan, run, ended))
            return ChatStream(chunks, lambda: ended[0] if ended else None)
        except BaseException:
            self._guard.leave()
            raise

    async def asend(
        self,
        text: str,
        *,
        replace: int | None = None,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatResult:
        """As ``send``, for asyncio: cancelling the task stops the answer."""
        chosen = merged(options, kwargs)
        with self._guard():
            plan = await in_thread(self._planned, text, replace, tools, chosen, tool_choice)
            return await self._acollected(plan, chosen)

    async def astream(
        self,
        text: str,
        *,
        replace: int | None = None,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> AsyncIterator[StreamChunk]:
        """As ``stream``, for asyncio; ``last_result`` is the whole answer when it ended."""
        chosen = merged(options, kwargs)
        with self._guard():
            plan = await in_thread(self._planned, text, replace, tools, chosen, tool_choice)
            bell = Doorbell()
            run = self._exchange.run(plan, streaming=True, on_ready=bell.ring)
            try:
                async with aclosing(astream_chunks(run, bell, chosen.on_token)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                await in_thread(self._exchange.concluded, plan, run)

    def regenerate(
        self,
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatResult:
        """Answer the last turn anew; the answer before stays if this one fails.

        Raises:
            ConfigError: there was no turn yet.
        """
        last = self.turns - 1
        return self.send(self.said(last), replace=last, options=options, **kwargs)

    def edit(
        self,
        turn: int,
        text: str,
        *,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatResult:
        """Say something else in a turn, from 0; what followed it goes when the answer comes."""
        return self.send(text, replace=turn, options=options, **kwargs)

    def said(self, turn: int) -> str:
        """What the user said in a turn, from 0.

        Raises:
            ConfigError: there is no such turn.
        """
        with self._guard():
            return self._exchange.said(turn)

    def undo(self) -> str:
        """Take the last turn back; answers what the user said in it.

        Raises:
            ConfigError: there was no turn yet.
        """
        with self._guard():
            text = self._exchange.said(self.turns - 1)
            self._exchange.change(self._exchange.conversation.up_to(self.turns - 1))
            return text

    def clear(self) -> None:
        """Forget all turns; the system prompt stays."""
        with self._guard():
            self._exchange.change(Conversation(self.system))

    # -- copies -------------------------------------------------------------------------------

    def fork(self, session_id: str | None = None) -> ChatClient:
        """A conversation of its own that begins with all of this one, its KV cache included.

        Args:
            session_id: of the new one; made up when None. In a store it is kept from its next
                turn on.
        """
        with self._guard():
            options = dataclasses.replace(self._options, store=None)
            session = self._session.fork(session_id)
            other = ChatClient(self._core, self.system, options, session)
            self._exchange.continued_by(other._exchange)
            return other

    def save(self, store: ChatStore | None = None, session_id: str | None = None) -> None:
        """Write the whole conversation to a store, over what is there under that id.

        Args:
            store: that of ``ChatOptions`` when None.
            session_id: name to keep it under; its own when None.

        Raises:
            ConfigError: there is no store.
            ChatStoreError: the store failed.
        """
        with self._guard():
            keeper = self._exchange.keeper
            chosen = store or keeper.store
            if chosen is None:
                raise invalid_option("store", None, "a store, here or in ChatOptions")
            name = session_id or self.session_id
            if chosen is keeper.store and name == self.session_id:
                keeper.keep(self._exchange.conversation)
            else:
                keeper.copy_to(chosen, name, self._exchange.conversation)

    def _end(self, plan: Plan, run: GenerationRun, ended: list[ChatResult]) -> None:
        try:
            result = self._exchange.concluded(plan, run)
            if result is not None:
                ended.append(result)
        finally:
            self._guard.leave()

    def close(self) -> None:
        """Let go of the cache. May be called again."""
        with self._guard():
            self._session.close()

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
            if exc is None:  # else what came first is told; the cache goes with the session
                raise
