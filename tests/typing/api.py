"""The API as users write it; run by the type checker, not by pytest."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import numpy as np
import numpy.typing as npt

import smallmind
from smallmind import endpoints, reading, validation
from smallmind.chat import ChatStore, SlidingHistory, SQLiteChatStore, Tool, ToolCall, ToolRun
from smallmind.structured import Choice, JsonSchema, Structured, parsed
from smallmind_engine.telemetry import ALL_KINDS, Event, FlushResult


class CountingExporter:
    """An exporter of a third party: no base class, just the protocol."""

    name = "counting"
    interests = ALL_KINDS
    inline = True

    def __init__(self) -> None:
        self.count = 0

    def export(self, event: Event, /) -> None:
        self.count += 1

    def flush(self, timeout_s: float) -> FlushResult:
        return FlushResult(delivered=self.count)

    def close(self) -> None:
        pass


def clock() -> str:
    return "noon"


def use(path: Path) -> None:
    token = smallmind.CancellationToken()
    with smallmind.load(path, exporters=["memory", CountingExporter()], backend="numpy") as engine:
        assert_type(engine, smallmind.Engine)
        result = engine.generate("Hi", max_tokens=4, stop="\n", cancellation=token)
        assert_type(result.text, str)
        assert_type(result.stop_reason, smallmind.StopReason)
        assert_type(result.timings.tokens_per_second, float | None)
        with engine.stream("Hi", options=smallmind.GenerationOptions(temperature=0.0)) as stream:
            for chunk in stream:
                assert_type(chunk, smallmind.StreamChunk)
        wanted = JsonSchema({"type": "integer"})
        number = engine.generate("1 + 1 = ", response_format=wanted)
        assert_type(number.structured, Structured | None)
        assert_type(parsed(number), object)
        engine.generate("?", options=smallmind.GenerationOptions(response_format=Choice(["a"])))
        with engine.session(session_id="alice") as session:
            assert_type(session.generate([1, 2, 3]), smallmind.GenerationResult)
            assert_type(session.fork(), smallmind.Session)
        assert_type(engine.stats(), smallmind.EngineStats)
        assert_type(engine.drain(timeout_s=1.0), bool)
        chat = engine.chat(system="Be brief.")
        answer = chat.send("Hello", request_timeout=1.0)
        assert_type(answer, smallmind.ChatResult)
        assert_type(answer.text, str)
        with chat.stream("Again", replace=0) as said:
            for chunk in said:
                assert_type(chunk, smallmind.StreamChunk)
            assert_type(said.result, smallmind.ChatResult | None)
        run = chat.run_tools("What time is it?", tools=[clock], executor=lambda call: call.name)
        assert_type(run, ToolRun)
        store: ChatStore = SQLiteChatStore(path)
        options = smallmind.ChatOptions(
            store=store,
            history=SlidingHistory(),
            tools=(clock, {"name": "now"}, Tool(name="later")),
        )
        assert_type(engine.chat(options=options).fork(), smallmind.ChatClient)


def use_reading(engine: smallmind.Engine) -> None:
    vectors = engine.embed(["Hi", "there"], pooling="mean", truncation="end")
    assert_type(vectors, reading.EmbeddingResult)
    assert_type(vectors.vectors, npt.NDArray[np.float32])
    assert_type(
        engine.embed("Hi", options=reading.EmbeddingOptions()).of(0), npt.NDArray[np.float32]
    )
    score = engine.score("Hi", [1, 2], request_timeout=1.0)
    assert_type(score.tokens, tuple[reading.TokenScore, ...])
    assert_type(engine.perplexity("Hi there", window=64).bits_per_byte, float | None)
    choices = engine.choices("Hi", n=3, best_of=5, temperature=1.0)
    assert_type(choices.choices[0], reading.Choice)
    assert_type(choices.choices[0].result, smallmind.GenerationResult)


async def later(city: str) -> str:
    return city


async def allowed(call: ToolCall) -> bool:
    return call.valid


def use_validation(path: Path) -> None:
    runner = validation.ValidationRunner(
        path, options=validation.ValidationOptions(only=("kv-*",), quick=True)
    )
    report = runner.run()
    assert_type(report, validation.ValidationReport)
    assert_type(report.result("kv-cache").figure("steps").value, float)
    assert_type(validation.junit_xml(report), str)


def use_endpoints(engine: smallmind.Engine) -> None:
    assert_type(endpoints.embeddings_app(engine), endpoints.AsgiApp)


async def use_async(engine: smallmind.Engine) -> None:
    assert_type(await engine.chat().asend("Hi"), smallmind.ChatResult)
    assert_type(await engine.chat().arun_tools("Now?", tools=[later], approve=allowed), ToolRun)
    async for chunk in engine.chat().astream("Hi"):
        assert_type(chunk, smallmind.StreamChunk)
    assert_type(await engine.agenerate("Hi"), smallmind.GenerationResult)
    assert_type(await engine.aembed("Hi"), reading.EmbeddingResult)
    assert_type(await engine.ascore("Hi", " there"), reading.ScoreResult)
    assert_type(await engine.achoices("Hi", 2), reading.ChoicesResult)
    async for chunk in engine.astream("Hi", seed=1):
        assert_type(chunk, smallmind.StreamChunk)
