"""The workings of a conversation: from a question to a run, and from a run to what is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from smallmind._chat_choice import TemplateOrigin, choose_template
from smallmind._chat_conversation import Conversation, user_message
from smallmind._chat_format import ChatFormat
from smallmind._chat_keeping import Keeper
from smallmind._chat_options import ChatOptions
from smallmind._chat_request import Asked, Plan, answered, planned
from smallmind._chat_result import ChatResult
from smallmind._chat_telling import tell_calls, tell_fallback, tell_left_out
from smallmind._chat_tools import (
    Tool,
    ToolFormat,
    ToolLike,
    ToolResult,
    as_tools,
    format_of,
    held_to_calls,
)
from smallmind._session import Session
from smallmind_engine.runtime import CHAT, EngineCore, GenerationOptions, GenerationRun
from smallmind_engine.telemetry import Emitter, ReasonCode, ToolError, new_correlation
from smallmind_engine.telemetry.errors import ChatStoreError, invalid_option


class Exchange:
    """A conversation and what it takes to go on with it. Belongs to one thread at a time.

    Args:
        core: the engine's parts.
        options: see ``ChatOptions``.
        session: takes the requests.

    Attributes:
        conversation: as it is now.
        last: the answer before; None when there was none.
        format: renders and tokenises.
        tools: that the model may call when a turn names no others.
        keeper: writes to the store, if there is one.
    """

    def __init__(self, core: EngineCore, options: ChatOptions, session: Session) -> None:
        template = choose_template(core.model, options.template, strict=options.strict_template)
        self._core = core
        self._options = options
        self._session = session
        self.format = ChatFormat(core.model.tokenizer, template, options.variables)
        self.tools = self.known_tools(options.tools)[0]
        self.keeper = Keeper(options.store, session.session_id, core.model)
        self.conversation = self.keeper.load() or Conversation(options.system)
        self.last: ChatResult | None = None
        if template.origin is TemplateOrigin.FALLBACK:
            correlation = new_correlation(session_id=session.session_id)
            tell_fallback(core.bus.emitter(correlation), core.model.name, template)

    @property
    def emitter(self) -> Emitter:
        """Publishes under the ids of the last answer."""
        return self._core.bus.emitter(None if self.last is None else self.last.correlation)

    # -- what is asked ------------------------------------------------------------------------

    def asked(self, text: str, replace: int | None) -> Asked:
        """A user's word, at the end or in the place of a turn."""
        if replace is not None:
            self.check_turn(replace)
        before = self.conversation if replace is None else self.conversation.up_to(replace)
        return Asked(before, (user_message(text),))

    def asked_with(self, results: Sequence[ToolResult]) -> Asked:
        """The last turn, with what tools have answered in it."""
        self.check_turn(len(self.conversation.turns) - 1)
        *before, last = self.conversation.turns
        messages = (*last.messages, *(result.message for result in results))
        return Asked(self.conversation.up_to(len(before)), messages, last.trail)

    def said(self, turn: int) -> str:
        """What the user said in a turn; raises as ``check_turn``."""
        self.check_turn(turn)
        return str(self.conversation.turns[turn].messages[0]["content"])

    def check_turn(self, turn: int) -> None:
        """Raise ``ConfigError`` when there is no such turn."""
        turns = len(self.conversation.turns)
        if not 0 <= turn < turns:
            held = f"one of 0 to {turns - 1}" if turns else "left out: nothing was said yet"
            raise invalid_option("turn", turn, held)

    def known_tools(self, tools: Sequence[ToolLike]) -> tuple[tuple[Tool, ...], ToolFormat | None]:
        """Tools, and how the model calls them; the latter None without any.

        Raises:
            ToolError: one cannot be described, or the model's format knows no tools.
        """
        known = as_tools(tools)
        if not known:
            return (), None
        template = self.format.template
        if not template.knows_tools:
            raise ToolError(
                ReasonCode.TOOLS_UNSUPPORTED,
                f"the chat template {template.name!r} of {self._core.model.name!r} says nothing"
                " of tools",
                hint="use a model trained for tools, or pass ChatOptions(template=...)",
            )
        return known, format_of(template.source_for(tools=True), self._options.tool_format)

    # -- the request --------------------------------------------------------------------------

    def planned(
        self,
        asked: Asked,
        tools: Sequence[ToolLike] | None,
        options: GenerationOptions,
        tool_choice: str | None = None,
    ) -> Plan:
        """What is sent for it; errors as of ``ChatClient.send``."""
        chosen, how = self.known_tools(self.tools if tools is None else tools)
        options = held_to_calls(options, chosen, how, tool_choice)
        return planned(
            asked,
            self.format,
            self._options.history,
            options,
            chosen,
            how,
            self._core.model.context_length,
        )

    def run(
        self, plan: Plan, *, streaming: bool, on_ready: Callable[[], None] | None = None
    ) -> GenerationRun:
        """The request, not begun; ``on_ready`` as in ``Session.new_run``."""
        prompt = plan.prompt
        run = self._session.new_run(
            prompt.rest,
            plan.options,
            streaming=streaming,
            prefix_ids=prompt.prefix_ids,
            add_special=prompt.add_special,
            operation=CHAT,
            on_ready=on_ready,
        )
        if plan.window.first:
            emitter = self._core.bus.emitter(run.correlation)
            tell_left_out(emitter, plan.window, len(plan.asked.before.turns) + 1)
        return run

    # -- its end ------------------------------------------------------------------------------

    def concluded(self, plan: Plan, run: GenerationRun) -> ChatResult | None:
        """Keep what came of a run, if it is to be kept; None when it never began.

        Raises:
            ChatStoreError: the store failed; ``details["result"]`` is the answer.
        """
        outcome = answered(plan, run, self.format)
        if outcome is None:
            return None
        self.last = result = outcome.result
        if result.tool_calls:
            invalid_calls = sum(not call.valid for call in result.tool_calls)
            tell_calls(self.emitter, len(result.tool_calls), invalid_calls)
        if outcome.conversation is not None:
            try:
                self.change(outcome.conversation)
            except ChatStoreError as error:
                error.details["result"] = result
                raise
        return result

    def change(self, conversation: Conversation) -> None:
        """Take ``conversation`` for the one before, and keep it in the store."""
        self.conversation = conversation
        self.keeper.keep(conversation)

    def continued_by(self, other: Exchange) -> None:
        """Let ``other`` begin with all that was said here; it is kept in the same store."""
        other.conversation = dataclasses.replace(self.conversation)
        other.keeper = Keeper(self.keeper.store, other._session.session_id, self._core.model)
