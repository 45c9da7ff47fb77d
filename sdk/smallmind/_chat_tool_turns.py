"""Turns in which a model calls tools; the base of ``ChatClient``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Unpack

from smallmind._async import Doorbell, acollect
from smallmind._chat_request import Plan
from smallmind._chat_result import ChatResult, whole
from smallmind._chat_rounds import DEFAULT_ROUNDS, Rounds, ToolRun
from smallmind._chat_telling import tell_rounds_exhausted
from smallmind._chat_tools import (
    AsyncApproval,
    AsyncExecutor,
    Executor,
    Tool,
    ToolCall,
    ToolLike,
    ToolResult,
    arun_call,
    as_tools,
    run_call,
)
from smallmind._chat_view import ChatView
from smallmind._request_options import RequestKwargs, merged
from smallmind._threads import in_thread
from smallmind_engine.runtime import GenerationOptions
from smallmind_engine.runtime.collect import collected
from smallmind_engine.telemetry.errors import invalid_option


class ToolTurns(ChatView):
    """What a conversation does with tools."""

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
            return self._answered(results, tools, merged(options, kwargs))

    async def asend_tool_results(
        self,
        results: Sequence[ToolResult],
        *,
        tools: Sequence[ToolLike] | None = None,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ChatResult:
        """As ``send_tool_results``, for asyncio."""
        with self._guard():
            return await self._aanswered(results, tools, merged(options, kwargs))

    def run_tools(
        self,
        text: str,
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
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
            tool_choice: of the first answer, as in ``send``.
            executor: carries calls out in place of the tools' own functions.
            approve: asked before each call; False tells the model that it was not approved.
            max_rounds: how often tools answer at most.
            options: of each request of the turn.
            kwargs: the same, one by one.
        """
        chosen, known = merged(options, kwargs), self._known(tools, max_rounds)
        with self._guard():
            first = self._collected(self._planned(text, None, tools, chosen, tool_choice))
            rounds = Rounds(first, max_rounds)
            while calls := rounds.calls:
                emitter = self._exchange.emitter  # of the answer that made them
                results = [
                    run_call(call, known, emitter, executor=executor, approve=approve)
                    for call in calls
                ]
                rounds.answered(results, self._answered(results, tools, chosen))
        return self._told(rounds.run, max_rounds)

    async def arun_tools(
        self,
        text: str,
        *,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | None = None,
        executor: AsyncExecutor | None = None,
        approve: AsyncApproval | None = None,
        max_rounds: int = DEFAULT_ROUNDS,
        options: GenerationOptions | None = None,
        **kwargs: Unpack[RequestKwargs],
    ) -> ToolRun:
        """As ``run_tools``, for asyncio: async tools are awaited, others run in threads.

        The calls of an answer are carried out one after the other. Cancelling the task cancels
        the tool that is awaited, and stops the answer that is generated; a function that runs in
        a thread cannot be stopped, and what it returns is dropped.

        Args:
            text: of the user.
            tools: that may be called, async functions among them.
            tool_choice: of the first answer, as in ``send``.
            executor: as of ``run_tools``; it may be async.
            approve: likewise.
            max_rounds: how often tools answer at most.
            options: of each request of the turn.
            kwargs: the same, one by one.
        """
        chosen, known = merged(options, kwargs), self._known(tools, max_rounds)
        with self._guard():
            plan = await in_thread(self._planned, text, None, tools, chosen, tool_choice)
            rounds = Rounds(await self._acollected(plan, chosen), max_rounds)
            while calls := rounds.calls:
                emitter = self._exchange.emitter
                results = [
                    await arun_call(call, known, emitter, executor=executor, approve=approve)
                    for call in calls
                ]
                rounds.answered(results, await self._aanswered(results, tools, chosen))
        return self._told(rounds.run, max_rounds)

    def _known(self, tools: Sequence[ToolLike] | None, max_rounds: int) -> dict[str, Tool]:
        """Tools by name."""
        if max_rounds < 1:
            raise invalid_option("max_rounds", max_rounds, "at least 1")
        known = self._exchange.tools if tools is None else as_tools(tools)
        return {tool.name: tool for tool in known}

    def _told(self, run: ToolRun, max_rounds: int) -> ToolRun:
        if run.exhausted:
            tell_rounds_exhausted(self._exchange.emitter, max_rounds)
        return run

    # -- one answer ---------------------------------------------------------------------------

    def _planned(
        self,
        text: str,
        replace: int | None,
        tools: Sequence[ToolLike] | None,
        options: GenerationOptions,
        tool_choice: str | None,
    ) -> Plan:
        asked = self._exchange.asked(text, replace)
        return self._exchange.planned(asked, tools, options, tool_choice)

    def _collected(self, plan: Plan) -> ChatResult:
        run = self._exchange.run(plan, streaming=False)
        collected(run)
        return whole(self._exchange.concluded(plan, run))

    async def _acollected(self, plan: Plan, options: GenerationOptions) -> ChatResult:
        bell = Doorbell()
        run = self._exchange.run(plan, streaming=False, on_ready=bell.ring)
        try:
            await acollect(run, bell, options.on_token)
        finally:
            result = await in_thread(self._exchange.concluded, plan, run)
        return whole(result)

    def _planned_answer(
        self,
        results: Sequence[ToolResult],
        tools: Sequence[ToolLike] | None,
        options: GenerationOptions,
    ) -> Plan:
        return self._exchange.planned(self._exchange.asked_with(results), tools, options)

    def _answered(
        self,
        results: Sequence[ToolResult],
        tools: Sequence[ToolLike] | None,
        options: GenerationOptions,
    ) -> ChatResult:
        return self._collected(self._planned_answer(results, tools, options))

    async def _aanswered(
        self,
        results: Sequence[ToolResult],
        tools: Sequence[ToolLike] | None,
        options: GenerationOptions,
    ) -> ChatResult:
        plan = await in_thread(self._planned_answer, results, tools, options)
        return await self._acollected(plan, options)
