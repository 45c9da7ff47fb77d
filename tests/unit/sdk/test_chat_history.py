"""Conversations that outgrow the context: what is left out, and who is told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind import ChatOptions, Engine
from smallmind.chat import (
    FullHistory,
    HistoryView,
    InMemoryChatStore,
    Message,
    SlidingHistory,
    SummarizedHistory,
    Window,
)
from smallmind_engine.telemetry import Degraded, DegradeReason, RuntimeLogEvent
from smallmind_engine.telemetry.errors import ConfigError, ContextOverflowError

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 5}
LONG = "word " * 8  # about sixty tokens of a context of 256


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        yield engine


def left_out(recorder: Recorder) -> list[Degraded]:
    told = recorder.of(Degraded)
    return [event for event in told if event.reason is DegradeReason.CONTEXT_TRUNCATION]


def test_a_full_history_refuses_what_does_not_fit_and_goes_on(engine: Engine) -> None:
    chat = engine.chat(options=ChatOptions(history=FullHistory()))
    for _ in range(3):
        chat.send(LONG, **GREEDY)
    with pytest.raises(ContextOverflowError):
        chat.send(LONG * 2, **GREEDY)
    assert chat.turns == 3
    chat.undo()
    assert chat.send("short", **GREEDY).turn == 2


def test_a_sliding_history_leaves_out_the_oldest_and_tells(
    engine: Engine, recorder: Recorder
) -> None:
    chat = engine.chat("Be brief.", options=ChatOptions(history=SlidingHistory()))
    results = [chat.send(f"{number} {LONG}", **GREEDY) for number in range(9)]
    assert [result.left_out_turns for result in results[:3]] == [0, 0, 0]
    assert results[-1].left_out_turns > 4
    assert all(result.usage.prompt_tokens < 256 for result in results)
    assert len(chat.messages) == 19, "the conversation itself is whole"
    told = left_out(recorder)
    shortened = [result for result in results if result.left_out_turns]
    assert [event.correlation for event in told] == [result.correlation for result in shortened]
    assert "the oldest" in told[0].message
    logged = [event for event in recorder.of(RuntimeLogEvent) if event.component == "chat"]
    assert logged[-1].properties["left_out_turns"] == results[-1].left_out_turns


def test_a_sliding_history_keeps_the_instructions_and_the_newest_turn(engine: Engine) -> None:
    chat = engine.chat("Be brief.", options=ChatOptions(history=SlidingHistory()))
    for number in range(6):
        last = chat.send(f"{number} {LONG}", **GREEDY)
    first = last.left_out_turns
    kept = [chat.messages[0], *chat.messages[1 + 2 * first : -1]]
    assert kept[-1]["content"] == f"5 {LONG}"
    expected = engine.generate(chat.render(kept), parse_special=True, **GREEDY)
    assert last.usage.prompt_tokens == expected.usage.prompt_tokens
    assert last.token_ids == expected.token_ids


def test_a_window_moves_seldom_so_that_the_cache_is_of_use(engine: Engine) -> None:
    chat = engine.chat(options=ChatOptions(history=SlidingHistory(slack=0.5)))
    results = [chat.send(LONG, **GREEDY) for _ in range(12)]
    pairs = [(a.left_out_turns, b) for a, b in itertools.pairwise(results)]
    moved = [result for before, result in pairs if result.left_out_turns != before]
    still = [result for before, result in pairs if result.left_out_turns == before]
    assert 3 <= len(moved) <= 6
    assert all(result.timings.prefill_tokens < 70 for result in still)


def test_even_alone_the_newest_turn_may_be_too_long(engine: Engine) -> None:
    chat = engine.chat(options=ChatOptions(history=SlidingHistory()))
    chat.send("short", **GREEDY)
    with pytest.raises(ContextOverflowError):
        chat.send("x" * 300, **GREEDY)
    assert chat.turns == 1
    assert chat.send("y", **GREEDY).turn == 1


def test_a_summary_stands_for_what_is_left_out(engine: Engine, recorder: Recorder) -> None:
    asked: list[list[Message]] = []

    def summarize(messages: Sequence[Message]) -> str:
        asked.append(list(messages))
        return f"summary {len(asked)}"

    history = SummarizedHistory(summarize=summarize)
    chat = engine.chat("Be brief.", options=ChatOptions(history=history))
    results = [chat.send(f"{number} {LONG}", **GREEDY) for number in range(7)]
    assert [result.summarized for result in results[:3]] == [False, False, False]
    assert results[-1].summarized
    assert asked[0][0] == {"role": "user", "content": f"0 {LONG}"}
    assert str(asked[1][0]["content"]).endswith("summary 1"), "the summary before is part of it"
    assert len(asked) < 4, "a summary serves for several turns"
    assert "a summary stands for them" in left_out(recorder)[-1].message


def test_a_summary_joins_the_instructions_or_else_the_first_message(engine: Engine) -> None:
    history = SummarizedHistory(summarize=lambda _: "all of it")
    for system, expected in (
        ("Be brief.", "<|im_start|>system\nBe brief.\n\nSummary of the conversation so far:\n"),
        (None, "<|im_start|>user\nSummary of the conversation so far:\nall of it\n\n"),
    ):
        chat = engine.chat(system, options=ChatOptions(history=history))
        while True:
            last = chat.send(LONG, **GREEDY)
            if last.summarized:
                break
        ids = chat._session._slot.token_ids
        assert engine.detokenize(ids).startswith(expected)


def test_what_a_summarizer_raises_ends_the_turn_only(engine: Engine) -> None:
    def broken(_: Sequence[Message]) -> str:
        raise OSError("no network")

    chat = engine.chat(options=ChatOptions(history=SummarizedHistory(summarize=broken)))
    for _ in range(3):
        chat.send(LONG, **GREEDY)
    with pytest.raises(OSError, match="no network"):
        chat.send(LONG, **GREEDY)
    assert chat.turns == 3
    assert chat.send("x", **GREEDY).turn == 3


def test_a_summary_that_is_too_long_is_left_out(engine: Engine) -> None:
    history = SummarizedHistory(summarize=lambda _: "x" * 300)
    chat = engine.chat(options=ChatOptions(history=history))
    results = [chat.send(LONG, **GREEDY) for _ in range(5)]
    assert results[-1].left_out_turns > 0
    assert not results[-1].summarized


def test_a_window_opens_again_when_an_early_turn_is_edited(engine: Engine) -> None:
    chat = engine.chat(options=ChatOptions(history=SlidingHistory()))
    for _ in range(5):
        chat.send(LONG, **GREEDY)
    edited = chat.edit(0, "short", **GREEDY)
    assert (edited.turn, edited.left_out_turns) == (0, 0)


def test_a_conversation_is_taken_up_with_its_window(engine: Engine) -> None:
    store = InMemoryChatStore()
    options = ChatOptions(session_id="a", store=store, history=SlidingHistory())
    with engine.chat(options=options) as chat:
        for _ in range(5):
            chat.send(LONG, **GREEDY)
        with engine.chat(options=options) as again:
            there = again.send("x", **GREEDY)
    with engine.chat(options=ChatOptions(session_id="b", history=SlidingHistory())) as other:
        for _ in range(5):
            other.send(LONG, **GREEDY)
        here = other.send("x", **GREEDY)
    assert there.left_out_turns == here.left_out_turns > 0
    assert there.token_ids == here.token_ids


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, 2.0])
def test_shares_are_checked(share: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        SlidingHistory(slack=share)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        SummarizedHistory(summarize=lambda _: "", keep=share)


def test_the_oldest_turn_that_fits_is_found_by_halving() -> None:
    asked: list[int] = []

    def fits(window: Window, tokens: int) -> bool:
        asked.append(window.first)
        return 100 - window.first <= tokens

    view = HistoryView([[]] * 100, Window(), 40, fits)
    assert view.oldest_that_fits(0, 40) == 60
    assert len(asked) < 8
    assert view.oldest_that_fits(0, 0) == 99, "the newest turn always stays"
