"""Turns with tools under asyncio: async tools are awaited, others never block the loop."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from chat_templates import HERMES
from engines import Recorder
from scripted_models import scripted
from smallmind import Engine
from smallmind._chat_tools import arun_call, as_tools
from smallmind.chat import Tool, ToolCall, ToolResult, ToolRun
from smallmind_engine.telemetry import EventBus, LogLevel, ReasonCode, RuntimeLogEvent

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
GREEDY = {"temperature": 0.0, "max_tokens": 300}
ROME = ToolCall(id="call00000", name="weather", arguments={"city": "Rome"})
HOST = contextvars.ContextVar("host", default="")


async def later(city: str) -> dict[str, object]:
    await asyncio.sleep(0)
    return {"city": city, "sun": 2, "thread": threading.current_thread() is threading.main_thread()}


def tool(function: Any) -> Tool:
    return Tool(name="weather", parameters=SCHEMA, function=function)


def call(**arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': 'weather', 'arguments': arguments})}</tool_call>"


def carried_out(function: Any = None, recorder: Recorder | None = None, **how: Any) -> ToolResult:
    bus = EventBus()
    bus.subscribe(recorder or Recorder())
    tools = {each.name: each for each in as_tools([tool(function)])}
    wanted = how.pop("wanted", ROME)
    return asyncio.run(arun_call(wanted, tools, bus.emitter(), **how))


def test_an_async_tool_is_awaited_and_its_answer_goes_to_the_model(tmp_path: Path) -> None:
    recorder = Recorder()

    def talk(engine: Engine) -> tuple[ToolRun, Any]:
        chat = engine.chat()
        run = asyncio.run(chat.arun_tools("Weather?", tools=[tool(later)], **GREEDY))
        return run, chat.messages

    answers = [call(town="Rome"), call(city="Rome"), "Sunny."]
    run, messages = scripted(tmp_path, answers, talk, chat_template=HERMES, exporters=[recorder])
    assert (run.text, run.rounds, run.exhausted) == ("Sunny.", 2, False)
    assert [result.error for result in run.results] == [True, False]
    assert run.results[1].content == '{"city": "Rome", "sun": 2, "thread": true}'
    roles = [message["role"] for message in messages]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    lines = [event for event in recorder.of(RuntimeLogEvent) if event.component == "tools"]
    assert [(line.level, line.reason) for line in lines] == [
        (LogLevel.WARN, ReasonCode.TOOL_CALL_INVALID),
        (LogLevel.INFO, None),
    ]
    assert {line.correlation.session_id for line in lines} == {run.result.correlation.session_id}


def test_the_rounds_are_those_of_the_twin(tmp_path: Path) -> None:
    def talk(engine: Engine) -> tuple[ToolRun, ToolRun]:
        one, two = engine.chat(), engine.chat()
        sun = tool(lambda city: {"city": city})
        sync = one.run_tools("Weather?", tools=[sun], max_rounds=2, **GREEDY)
        twin = asyncio.run(two.arun_tools("Weather?", tools=[sun], max_rounds=2, **GREEDY))
        return sync, twin

    sync, twin = scripted(tmp_path, [call(city="Rome")] * 3, talk, chat_template=HERMES)
    assert (twin.rounds, twin.exhausted) == (sync.rounds, sync.exhausted) == (2, True)
    assert [r.content for r in twin.results] == [r.content for r in sync.results]
    assert twin.text == sync.text


def test_a_plain_function_runs_in_a_thread_with_the_callers_context() -> None:
    def plain(city: str) -> str:
        in_main = threading.current_thread() is threading.main_thread()
        return f"{city} {in_main} {HOST.get()}"

    async def host() -> ToolResult:
        HOST.set("request 7")
        (known,) = as_tools([tool(plain)])
        return await arun_call(ROME, {known.name: known}, EventBus().emitter())

    assert asyncio.run(host()).content == "Rome False request 7"


class Answering:
    async def __call__(self, city: str) -> str:
        return f"object {city}"


@pytest.mark.parametrize(
    ("function", "content"),
    [
        (Answering(), "object Rome"),
        (lambda city: later(city=city), '{"city": "Rome", "sun": 2, "thread": true}'),
    ],
)
def test_whatever_gives_an_awaitable_is_awaited(function: Any, content: str) -> None:
    assert carried_out(function).content == content


def test_executors_and_approvals_may_be_async() -> None:
    async def execute(wanted: ToolCall) -> object:
        return [wanted.name]

    async def refuse(_: ToolCall) -> bool:
        return False

    assert carried_out(executor=execute).content == '["weather"]'
    refused = carried_out(later, approve=refuse)
    assert (refused.error, refused.content) == (True, '{"error": "the call was not approved"}')
    assert not carried_out(later, approve=lambda _: True).error


def test_what_an_async_tool_raises_is_told_to_the_model() -> None:
    async def broken(city: str) -> object:
        raise OSError(f"no way to {city}")

    recorder = Recorder()
    result = carried_out(broken, recorder)
    assert (result.error, result.content) == (True, '{"error": "OSError: no way to Rome"}')
    (line,) = recorder.of(RuntimeLogEvent)
    assert (line.reason, line.error) == (ReasonCode.TOOL_FAILED, "OSError")


def test_a_tool_without_a_function_needs_an_executor() -> None:
    assert "there is no executor" in carried_out(None).content


def test_cancelling_the_task_cancels_the_tool_and_frees_the_conversation(tmp_path: Path) -> None:
    def talk(engine: Engine) -> tuple[list[str], str]:
        seen: list[str] = []

        async def host() -> str:
            begun = asyncio.Event()

            async def endless(city: str) -> object:
                seen.append(city)
                begun.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    seen.append("cancelled")
                    raise
                raise AssertionError

            chat = engine.chat()
            run = asyncio.create_task(chat.arun_tools("Weather?", tools=[tool(endless)], **GREEDY))
            waiting = asyncio.create_task(begun.wait())
            await asyncio.wait((run, waiting), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            run.cancel()
            (ended,) = await asyncio.gather(run, return_exceptions=True)
            seen.append(type(ended).__name__)
            return (await chat.asend("Never mind.", replace=0, max_tokens=3)).stop_reason

        return seen, asyncio.run(host())

    answers = [call(city="Rome")]
    seen, reason = scripted(tmp_path, answers, talk, chat_template=HERMES)
    assert seen == ["Rome", "cancelled", "CancelledError"]
    assert reason in {"MAX_TOKENS", "COMPLETED"}


def test_results_of_ones_own_have_an_async_twin(tmp_path: Path) -> None:
    def talk(engine: Engine) -> str:
        async def host() -> str:
            chat = engine.chat()
            first = await chat.asend("Weather?", tools=[tool(None)], **GREEDY)
            if not first.tool_calls:
                return ""
            results = [ToolResult(call=each, content="rain") for each in first.tool_calls]
            return (await chat.asend_tool_results(results, tools=[tool(None)], **GREEDY)).text

        return asyncio.run(host())

    answers = [call(city="Rome"), "Rain."]
    assert scripted(tmp_path, answers, talk, chat_template=HERMES) == "Rain."
