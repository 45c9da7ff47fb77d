"""Streams give what the whole call gives, in whole characters, and end cleanly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind import Engine, StopReason
from smallmind_engine.telemetry import InferenceStopped
from smallmind_engine.telemetry.errors import ContextOverflowError
from tiny_models import TinyModel, token_table

SEEDED = {"seed": 7, "temperature": 1.5, "ignore_eos": True, "max_tokens": 30}


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        yield engine


def test_the_same_seed_gives_the_same_tokens(engine: Engine) -> None:
    first, second = (engine.generate("the", **SEEDED) for _ in range(2))
    assert first.token_ids == second.token_ids
    assert first.token_ids != engine.generate("the", **{**SEEDED, "seed": 8}).token_ids


def test_the_seed_that_was_drawn_repeats_the_request(engine: Engine) -> None:
    free = {**SEEDED, "seed": None}
    first = engine.generate("the", **free)
    again = engine.generate("the", **{**free, "seed": first.seed})
    assert first.token_ids == again.token_ids


@pytest.mark.parametrize("buffered", [None, 1, 8, 1000])
@pytest.mark.parametrize("stop", [(), ("e",), ("the", " a")])
def test_chunks_join_to_the_text_of_the_whole_call(
    engine: Engine, buffered: int | None, stop: tuple[str, ...]
) -> None:
    whole = engine.generate("the", stop=stop, **SEEDED)
    with engine.stream("the", stop=stop, max_buffered_tokens=buffered, **SEEDED) as stream:
        chunks = list(stream)
    assert whole.text == "".join(chunk.text for chunk in chunks)
    assert stream.result is not None
    assert (whole.token_ids, whole.stop_reason) == (
        stream.result.token_ids,
        stream.result.stop_reason,
    )


def test_no_chunk_holds_half_a_character(engine: Engine) -> None:
    # Each byte of a character is a token of its own here; the bias makes the model write "é".
    first, second = engine.tokenize("é")
    bias = {first: 1e4, second: 1e4 - 0.5}
    with engine.stream(
        "x", temperature=0.0, max_tokens=8, logit_bias=bias, presence_penalty=50.0, penalty_window=1
    ) as stream:
        chunks = [chunk.text for chunk in stream]
    assert "".join(chunks) == "éééé"
    assert set(chunks) == {"", "é"}


def test_a_completion_keeps_its_first_space(tmp_path: Path) -> None:
    """A token table's space belongs to the completion, though a text's first one is its own."""
    word = token_table().index("▁and")
    with tiny_engine(tmp_path, TinyModel(tokenizer="llama")) as engine:
        result = engine.generate("the", temperature=0.0, max_tokens=2, logit_bias={word: 1e4})
    assert result.text == " and and"


def test_logprobs_come_with_each_chunk_and_in_the_result(engine: Engine) -> None:
    with engine.stream("the", logprobs=2, **SEEDED) as stream:
        chunks = [chunk for chunk in stream if chunk.token_id is not None]
    assert stream.result is not None
    assert [chunk.logprob for chunk in chunks] == list(stream.result.logprobs or ())
    for chunk in chunks:
        assert chunk.logprob is not None
        assert chunk.logprob.token_id == chunk.token_id
        assert len(chunk.logprob.top) == 2
        assert chunk.logprob.top[0][1] >= chunk.logprob.logprob


def test_errors_reach_the_reader_of_a_buffered_stream(engine: Engine) -> None:
    stream = engine.stream([5] * 1000, max_buffered_tokens=4)
    with pytest.raises(ContextOverflowError):
        next(stream)


def test_blocked_generation_waits_for_its_reader(engine: Engine) -> None:
    with engine.stream("the", max_buffered_tokens=1, **SEEDED) as stream:
        assert len([chunk for chunk in stream if chunk.token_id is not None]) == 30


def test_closing_a_blocked_stream_ends_its_thread(engine: Engine, recorder: Recorder) -> None:
    stream = engine.stream("the", max_buffered_tokens=1, **SEEDED)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name == "smallmind-stream"]
    assert recorder.of(InferenceStopped)[-1].reason is StopReason.CANCELLED_BY_CALLER


def test_async_twins_give_the_same_tokens(engine: Engine) -> None:
    whole = engine.generate("the", **SEEDED)

    async def both() -> tuple[tuple[int, ...], str]:
        result = await engine.agenerate("the", **SEEDED)
        text = "".join([chunk.text async for chunk in engine.astream("the", **SEEDED)])
        return result.token_ids, text

    assert asyncio.run(both()) == (whole.token_ids, whole.text)


def test_many_tasks_share_an_engine(engine: Engine) -> None:
    async def all_of_them() -> list[str]:
        results = await asyncio.gather(*(engine.agenerate("the", **SEEDED) for _ in range(5)))
        return [result.text for result in results]

    assert set(asyncio.run(all_of_them())) == {engine.generate("the", **SEEDED).text}


def test_cancelling_the_task_stops_the_request(engine: Engine, recorder: Recorder) -> None:
    started, leave = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        started.set()
        leave.wait(10)

    async def cancelled() -> None:
        task = asyncio.create_task(engine.agenerate("the", on_token=hold, **SEEDED))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        leave.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert recorder.of(InferenceStopped)[-1].reason is StopReason.CANCELLED_BY_CALLER


def test_leaving_an_async_stream_stops_the_request(engine: Engine, recorder: Recorder) -> None:
    async def first_only() -> None:
        chunks = engine.astream("the", max_buffered_tokens=1, **SEEDED)
        async for _ in chunks:
            break
        await chunks.aclose()  # type: ignore[attr-defined]  # it is a generator

    asyncio.run(first_only())
    assert recorder.of(InferenceStopped)[-1].reason is StopReason.CANCELLED_BY_CALLER
