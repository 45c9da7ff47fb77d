"""Chat: a conversation in the model's own format."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Final, Self, Unpack

from smallmind._async import acollect, astream_chunks
from smallmind._chat_choice import ChatTemplate, TemplateOrigin, choose_template
from smallmind._chat_conversation import Conversation, Message, user_message
from smallmind._chat_format import ChatFormat
from smallmind._chat_keeping import Keeper
from smallmind._chat_options import ChatOptions
from smallmind._chat_request import Asked, Plan, answered, planned
from smallmind._chat_result import ChatResult, ChatStream
from smallmind._chat_rounds import ToolRun, run_rounds
from smallmind._chat_telling import (
    tell_calls,
    tell_fallback,
    tell_left_out,
    tell_rounds_exhausted,
)
from smallmind._chat_tools import (
    Executor,
    Tool,
    ToolCall,
    ToolFormat,
    ToolLike,
    ToolResult,
    as_tools,
    format_of,
    run_call,
)
from smallmind._guard import SingleUseGuard
from smallmind._guarded_stream import guarded
from smallmind._request_options import RequestKwargs, merged
from smallmind._session import Session
from smallmind._stores import ChatStore
from smallmind_engine.runtime import (
    CHAT,
    EngineCore,
    GenerationOptions,
    GenerationRun,
    StreamChunk,
)
from smallmind_engine.runtime.collect import collected, open_stream
from smallmind_engine.telemetry import Emitter, ReasonCode, ToolError, new_correlation
from smallmind_engine.telemetry.errors import ChatStoreError, ConfigError, InferenceError

DEFAULT_ROUNDS: Final = 8
"""How often tools answer in one turn at most, unless a caller says otherwise."""


class ChatClient:
    """Belongs to one thread at a time, like the session inside it.

    Args:
        core: the engine's parts.
        system: instructions before the first turn; wins over the one in ``options`` and in a
            store.
        options: see ``ChatOptions``.

    Raises:
        ChatTemplateError: the model has no chat template, and ``strict_template`` asks for one.
        ToolError: a tool cannot be described, or the model's format knows no tools.
        ChatStoreError: the store cannot be read.
    """

    def __init__(self, core: EngineCore, system: str | None, options: ChatOptions) -> None:
        template = choose_template(core.model, options.template, strict=options.strict_template)
        self._core = core
        self._options = options
        self._format = ChatFormat(core.model.tokenizer, template, options.variables)
        self._session = Session(core, options.session_id)
        self._guard = SingleUseGuard(f"chat {self.session_id!r}")
        self._tools, _ = self._known_tools(options.tools)
        self._keeper = Keeper(options.store, self.session_id, core.model)
        conversation = self._keeper.load() or Conversation(options.system)
        instructions = system if system is not None else options.system
        if instructions is not None:
            conversation = dataclasses.replace(conversation, system=instructions)
        self._conversation = conversation
        self._last: ChatResult | None = None
        if template.origin is TemplateOrigin.FALLBACK:
            correlation = new_correlation(session_id=self.session_id)
            tell_fallback(core.bus.emitter(correlation), core.model.name, template)

    # -- what it is ---------------------------------------------------------------------------

    @property
    def session_id(self) -> str:
        """The id on its events, and its name in a store."""
        return self._session.session_id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, whole, as copies."""
        return self._conversation.messages

    @property
    def turns(self) -> int:
        """How often the user has spoken."""
        return len(self._conversation.turns)

    @property
    def template(self) -> ChatTemplate:
        """What it is rendered with, and why."""
        return self._format.template

    @property
    def last_result(self) -> ChatResult | None:
        """The answer before; None when there was none."""
        return self._last

    @property
    def system(self) -> str | None:
        """Instructions before the first turn; may be set to others."""
        return self._conversation.system

    @system.setter
    def system(self, text: str | None) -> None:
        with self._guard():
            self._change(dataclasses.replace(self._conversation, system=text))

    def render(self, messages: Sequence[Message] | None = None) -> str:
        """The prompt that a conversation becomes: this one, or ``messages``.

        Raises:
            ChatTemplateError: the template cannot render it.
        """
        shown = self.messages if messages is None else messages
        return self._format.render(shown, [tool.spec for tool in self._tools])

    # -- turns --------------------------------------------------------------------------------

    def send(
        self,
        text: str,
        *,
        replace: int | None = None,
        tools: Sequence[ToolLike] | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatResult:
        """Say something and get the answer; options and errors as in ``Engine.generate``.

        An answer that was cut short (cancelled, timed out) stays in the conversation; a turn
        that failed leaves no trace in it.

        Args:
            text: of the user.
            replace: turn in whose place to say it, from 0; it and those after it go when the
                answer comes.
            tools: that the model may call in this turn; those of ``ChatOptions`` when None.
            options: see ``GenerationOptions``.
            kwargs: the same, one by one.

        Raises:
            ChatTemplateError: the template cannot render the conversation.
            ToolError: a tool cannot be described, or the model's format knows no tools.
            ContextOverflowError: not even the part that the history policy keeps fits.
            ChatStoreError: the turn is kept here, but could not be stored.
        """
        with self._guard():
            plan = self._planned(self._asked(text, replace), tools, merged(options, kwargs))
            return self._collected(plan)

    def stream(
        self,
        text: str,
        *,
        replace: int | None = None,
        tools: Sequence[ToolLike] | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatStream:
        """As ``send``, chunk by chunk; the conversation is in use until the stream ends."""
        chosen = merged(options, kwargs)
        self._guard.enter()
        try:
            plan = self._planned(self._asked(text, replace), tools, chosen)
            run = self._run(plan, streaming=True)
            ended: list[ChatResult] = []
            chunks = guarded(run, open_stream(run, chosen), lambda: self._end(plan, run, ended))
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
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatResult:
        """As ``send``, for asyncio: cancelling the task stops the answer."""
        with self._guard():
            plan = self._planned(self._asked(text, replace), tools, merged(options, kwargs))
            run = self._run(plan, streaming=False)
            try:
                await acollect(run)
            finally:
                result = self._concluded(plan, run)
            return _whole(result)

    async def astream(
        self,
        text: str,
        *,
        replace: int | None = None,
        tools: Sequence[ToolLike] | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> AsyncIterator[StreamChunk]:
        """As ``stream``, for asyncio; ``last_result`` is the whole answer when it ended."""
        chosen = merged(options, kwargs)
        with self._guard():
            plan = self._planned(self._asked(text, replace), tools, chosen)
            run = self._run(plan, streaming=True)
            try:
                async for chunk in astream_chunks(run, chosen):
                    yield chunk
            finally:
                self._concluded(plan, run)

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
        self._check_turn(turn)
        return str(self._conversation.turns[turn].messages[0]["content"])

    def undo(self) -> str:
        """Take the last turn back; answers what the user said in it.

        Raises:
            ConfigError: there was no turn yet.
        """
        with self._guard():
            text = self.said(self.turns - 1)
            self._change(self._conversation.up_to(self.turns - 1))
            return text

    def clear(self) -> None:
        """Forget all turns; the system prompt stays."""
        with self._guard():
            self._change(Conversation(self.system))

    # -- tools --------------------------------------------------------------------------------

    def send_tool_results(
        self,
        results: Sequence[ToolResult],
        *,
        tools: Sequence[ToolLike] | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatResult:
        """Tell the model what came of its calls, and get its answer in the same turn.

        Raises:
            ConfigError: there was no turn yet.
        """
        with self._guard():
            self._check_turn(self.turns - 1)
            *before, last = self._conversation.turns
            asked = Asked(
                self._conversation.up_to(len(before)),
                (*last.messages, *(result.message for result in results)),
                last.trail,
            )
            return self._collected(self._planned(asked, tools, merged(options, kwargs)))

    def run_tools(
        self,
        text: str,
        *,
        tools: Sequence[ToolLike] | None = None,
        executor: Executor | None = None,
        approve: Callable[[ToolCall], bool] | None = None,
        max_rounds: int = DEFAULT_ROUNDS,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ToolRun:
        """Say something, and carry out the calls of tools that the model makes.

        Each call is checked against its tool's schema before. What a tool raises, and what is
        wrong with a call, is told to the model, which may try again.

        Args:
            text: of the user.
            tools: that may be called; those of ``ChatOptions`` when None.
            executor: carries calls out in place of the tools' own functions.
            approve: asked before each call; False tells the model that it was not approved.
            max_rounds: how often tools answer at most.
            options: of each request of the turn.
            kwargs: the same, one by one.
        """
        if max_rounds < 1:
            raise _invalid("max_rounds", max_rounds, "at least 1")
        chosen = merged(options, kwargs)
        by_name = {tool.name: tool for tool in self._tools_or(tools)}

        def carry_out(call: ToolCall) -> ToolResult:
            return run_call(
                call, by_name, self._emitter_of_last(), executor=executor, approve=approve
            )

        def answer(results: Sequence[ToolResult]) -> ChatResult:
            return self.send_tool_results(results, tools=tools, options=chosen)

        first = self.send(text, tools=tools, options=chosen)
        run = run_rounds(first, carry_out, answer, max_rounds)
        if run.exhausted:
            tell_rounds_exhausted(self._emitter_of_last(), max_rounds)
        return run

    # -- copies -------------------------------------------------------------------------------

    def fork(self, session_id: str | None = None) -> ChatClient:
        """A conversation of its own that begins with all that was said in this one.

        Args:
            session_id: of the new one; made up when None. In a store it is kept from its next
                turn on.
        """
        with self._guard():
            options = dataclasses.replace(self._options, session_id=session_id, store=None)
            other = ChatClient(self._core, self.system, options)
            other._conversation = self._conversation
            other._keeper = Keeper(self._keeper.store, other.session_id, self._core.model)
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
            own = self._keeper.store
            chosen = store or own
            if chosen is None:
                raise _invalid("store", None, "a store, here or in ChatOptions")
            name = session_id or self.session_id
            if chosen is own and name == self.session_id:
                self._keeper.keep(self._conversation)
            else:
                self._keeper.copy_to(chosen, name, self._conversation)

    # -- from a question to its answer --------------------------------------------------------

    def _asked(self, text: str, replace: int | None) -> Asked:
        if replace is not None:
            self._check_turn(replace)
        before = self._conversation if replace is None else self._conversation.up_to(replace)
        return Asked(before, (user_message(text),))

    def _planned(
        self, asked: Asked, tools: Sequence[ToolLike] | None, options: GenerationOptions
    ) -> Plan:
        chosen, how = self._known_tools(self._tools if tools is None else tools)
        return planned(
            asked,
            self._format,
            self._options.history,
            options,
            chosen,
            how,
            self._core.model.context_length,
        )

    def _run(self, plan: Plan, *, streaming: bool) -> GenerationRun:
        prompt = plan.prompt
        run = self._session.new_run(
            prompt.rest,
            plan.options,
            streaming=streaming,
            prefix_ids=prompt.prefix_ids,
            add_special=prompt.add_special,
            operation=CHAT,
        )
        if plan.window.first:
            emitter = self._core.bus.emitter(run.correlation)
            tell_left_out(emitter, plan.window, len(plan.asked.before.turns) + 1)
        return run

    def _collected(self, plan: Plan) -> ChatResult:
        run = self._run(plan, streaming=False)
        collected(run)
        return _whole(self._concluded(plan, run))

    def _concluded(self, plan: Plan, run: GenerationRun) -> ChatResult | None:
        """Keep what came of a run, if it is to be kept."""
        outcome = answered(plan, run, self._format)
        if outcome is None:
            return None
        self._last = result = outcome.result
        if result.tool_calls:
            invalid = sum(not call.valid for call in result.tool_calls)
            tell_calls(self._core.bus.emitter(run.correlation), len(result.tool_calls), invalid)
        if outcome.conversation is not None:
            try:
                self._change(outcome.conversation)
            except ChatStoreError as error:
                error.details["result"] = result
                raise
        return result

    def _end(self, plan: Plan, run: GenerationRun, ended: list[ChatResult]) -> None:
        try:
            result = self._concluded(plan, run)
            if result is not None:
                ended.append(result)
        finally:
            self._guard.leave()

    def _change(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._keeper.keep(conversation)

    # -- small things -------------------------------------------------------------------------

    def _tools_or(self, tools: Sequence[ToolLike] | None) -> tuple[Tool, ...]:
        return self._tools if tools is None else as_tools(tools)

    def _known_tools(self, tools: Sequence[ToolLike]) -> tuple[tuple[Tool, ...], ToolFormat | None]:
        """Tools, and how the model calls them; the latter None without any."""
        known = as_tools(tools)
        if not known:
            return (), None
        template = self._format.template
        if not template.knows_tools:
            raise ToolError(
                ReasonCode.TOOLS_UNSUPPORTED,
                f"the chat template {template.name!r} of {self._core.model.name!r} says nothing"
                " of tools",
                hint="use a model trained for tools, or pass ChatOptions(template=...)",
            )
        return known, format_of(template.source_for(tools=True), self._options.tool_format)

    def _emitter_of_last(self) -> Emitter:
        correlation = None if self._last is None else self._last.correlation
        return self._core.bus.emitter(correlation)

    def _check_turn(self, turn: int) -> None:
        if not 0 <= turn < self.turns:
            held = f"0 to {self.turns - 1}" if self.turns else "none: nothing was said yet"
            raise _invalid("turn", turn, f"one of {held}")

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
        self.close()


def _whole(result: ChatResult | None) -> ChatResult:
    """The result of a run that ended."""
    if result is None:
        raise InferenceError(ReasonCode.ERROR, "the request ended without a result")
    return result


def _invalid(option: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(
        ReasonCode.OPTION_INVALID,
        f"{option} is {value!r}; it must be {allowed}",
        option=option,
        value=value,
    )
