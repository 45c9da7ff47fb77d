"""Chat: the model's template, the conversation kept, the cache reused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind import CancellationToken, ChatOptions, Engine, StopReason
from smallmind_engine.telemetry import BatchStepped
from smallmind_engine.telemetry.errors import ConcurrentSessionUseError, ConfigError
from tiny_models import TinyModel

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 5}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with tiny_engine(tmp_path) as engine:
        yield engine


def test_a_turn_is_rendered_with_the_models_template(engine: Engine) -> None:
    chat = engine.chat(system="Be brief.")
    answer = chat.send("Hello", **GREEDY)
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    same = engine.generate(expected, parse_special=True, **GREEDY)
    assert same.token_ids == answer.token_ids
    roles = [message["role"] for message in chat.messages]
    assert roles == ["system", "user", "assistant"]
    assert chat.messages[-1]["content"] == answer.text


def test_the_second_turn_reuses_the_first(engine: Engine) -> None:
    with engine.chat() as chat:
        first = chat.send("Hello", **GREEDY)
        second = chat.send("Again", **GREEDY)
    assert second.usage.cached_tokens >= first.usage.prompt_tokens
    assert first.correlation.session_id == second.correlation.session_id == chat.session_id


def test_a_stream_is_remembered_when_it_ends_or_is_closed(engine: Engine) -> None:
    chat = engine.chat(options=ChatOptions(session_id="mine"))
    with chat.stream("Hello", **GREEDY) as stream:
        text = "".join(chunk.text for chunk in stream)
    assert chat.messages[-1]["content"] == text
    with chat.stream("Again", **GREEDY) as stream:
        next(stream)
    assert stream.result is not None
    assert chat.messages[-1]["content"] == stream.result.text
    assert len(chat.messages) == 4


def test_a_turn_that_fails_leaves_no_trace(engine: Engine) -> None:
    chat = engine.chat()
    with pytest.raises(KeyError):
        chat.send("Hello", on_token=lambda _: {}["no"], **GREEDY)
    with pytest.raises(KeyError):
        list(chat.stream("Hello", on_token=lambda _: {}["no"], **GREEDY))
    assert chat.messages == ()
    assert chat.send("Hello", **GREEDY).token_ids


def test_an_unfinished_stream_holds_the_conversation(engine: Engine) -> None:
    chat = engine.chat()
    with chat.stream("Hello", **GREEDY) as stream:
        next(stream)
        with pytest.raises(ConcurrentSessionUseError):
            chat.send("x")
    chat.close()


def test_a_stream_that_is_dropped_lets_the_conversation_go_on(engine: Engine) -> None:
    chat = engine.chat()
    stream = chat.stream("Hello", **GREEDY)
    next(stream)
    assert stream.result is None
    del stream
    assert chat.send("Again", **GREEDY).turn == 1


def test_a_caller_may_pass_a_template(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, TinyModel(chat_template=None)) as engine:
        chat = engine.chat(options=ChatOptions(template="{{ messages[0]['content'] }}!"))
        assert chat.send("Hello", **GREEDY).usage.prompt_tokens == 6


def test_an_answer_is_not_tokenised_again(engine: Engine) -> None:
    """The tokens that the model produced stay, though their text would give others."""
    with engine.chat() as chat:
        first = chat.send("Hello", **GREEDY)
        assert engine.tokenize(first.text) != list(first.token_ids)
        second = chat.send("Again", **GREEDY)
    seen = first.usage.prompt_tokens + len(first.token_ids) - 1  # the last one was not computed
    new = engine.tokenize(
        "<|im_end|>\n<|im_start|>user\nAgain<|im_end|>\n<|im_start|>assistant\n",
        parse_special=True,
    )
    assert second.usage.cached_tokens == seen
    assert second.timings.prefill_tokens == len(new) + 1


def test_a_result_knows_its_place_and_its_template(engine: Engine) -> None:
    chat = engine.chat()
    results = [chat.send(text, **GREEDY) for text in ("one", "two")]
    assert [result.turn for result in results] == [0, 1]
    assert {(result.template, result.left_out_turns) for result in results} == {("default", 0)}
    assert results[0].content == results[0].text
    assert chat.last_result is results[1]


def test_every_event_of_a_conversation_carries_its_id(tmp_path: Path) -> None:
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        before = len(recorder.events)
        with engine.chat(options=ChatOptions(session_id="talk")) as chat:
            chat.send("Hello", **GREEDY)
            list(chat.stream("Again", **GREEDY))
        # A step of the model may serve many requests: it belongs to none.
        told = [each for each in recorder.events[before:] if not isinstance(each, BatchStepped)]
    assert len(told) > 20
    assert {event.correlation.session_id for event in told} == {"talk"}


# -- changing what was said --------------------------------------------------------------------


def test_a_turn_can_be_answered_anew(engine: Engine) -> None:
    chat = engine.chat()
    chat.send("Hello", **GREEDY)
    first = chat.send("Again", **GREEDY)
    other = chat.regenerate(max_tokens=5, ignore_eos=True, temperature=5.0, seed=1)
    assert other.token_ids != first.token_ids
    assert chat.turns == 2
    assert chat.messages[-1]["content"] == other.text
    assert other.timings.prefill_tokens == 1, "all of the prompt is in the cache"
    assert chat.regenerate(**GREEDY).token_ids == first.token_ids


def test_an_edited_turn_takes_the_place_of_all_that_followed(engine: Engine) -> None:
    chat = engine.chat("Be brief.")
    for text in ("one", "two", "three"):
        chat.send(text, **GREEDY)
    edited = chat.edit(1, "other", **GREEDY)
    assert edited.turn == 1
    said = [message["content"] for message in chat.messages if message["role"] == "user"]
    assert said == ["one", "other"]
    fresh = engine.chat("Be brief.")
    fresh.send("one", **GREEDY)
    assert fresh.send("other", **GREEDY).token_ids == edited.token_ids


def test_an_edit_that_fails_changes_nothing(engine: Engine) -> None:
    chat = engine.chat()
    chat.send("one", **GREEDY)
    before = chat.messages
    with pytest.raises(KeyError):
        chat.edit(0, "other", on_token=lambda _: {}["no"], **GREEDY)
    assert chat.messages == before


def test_a_stream_may_take_the_place_of_a_turn(engine: Engine) -> None:
    chat = engine.chat()
    first = chat.send("one", **GREEDY)
    with chat.stream("one", replace=0, **GREEDY) as stream:
        list(stream)
    assert stream.result is not None
    assert (stream.result.turn, stream.result.token_ids) == (0, first.token_ids)
    assert chat.turns == 1


@pytest.mark.parametrize("turn", [-1, 1, 7])
def test_a_turn_that_does_not_exist_cannot_be_edited(engine: Engine, turn: int) -> None:
    chat = engine.chat()
    with pytest.raises(ConfigError, match="nothing was said yet"):
        chat.regenerate()
    chat.send("one", **GREEDY)
    with pytest.raises(ConfigError, match=f"turn is {turn}; it must be one of 0 to 0"):
        chat.edit(turn, "other")


def test_the_last_turn_can_be_taken_back(engine: Engine) -> None:
    chat = engine.chat("Be brief.")
    first = chat.send("one", **GREEDY)
    chat.send("two", **GREEDY)
    assert chat.undo() == "two"
    assert chat.messages[-1]["content"] == first.text
    chat.clear()
    assert [message["role"] for message in chat.messages] == ["system"]


def test_a_fork_goes_its_own_way(engine: Engine) -> None:
    chat = engine.chat("Be brief.")
    chat.send("one", **GREEDY)
    other = chat.fork()
    assert other.session_id != chat.session_id
    assert other.messages == chat.messages
    here, there = chat.send("two", **GREEDY), other.send("two", **GREEDY)
    assert here.token_ids == there.token_ids
    other.send("three", **GREEDY)
    assert (chat.turns, other.turns) == (2, 3)
    assert here.correlation.session_id != there.correlation.session_id


def test_other_instructions_hold_from_the_next_turn_on(engine: Engine) -> None:
    chat = engine.chat("Be brief.")
    chat.send("one", **GREEDY)
    chat.system = "Be long."
    assert chat.render().startswith("<|im_start|>system\nBe long.<|im_end|>")
    again = chat.send("two", **GREEDY)
    assert again.usage.cached_tokens < 30


def test_messages_are_copies(engine: Engine) -> None:
    chat = engine.chat("Be brief.")
    chat.messages[0]["content"] = "changed"
    assert chat.messages[0]["content"] == "Be brief."


# -- how an answer ends ------------------------------------------------------------------------


def test_a_turn_that_was_stopped_before_its_first_token_leaves_no_trace(engine: Engine) -> None:
    token = CancellationToken()
    token.cancel()
    chat = engine.chat()
    result = chat.send("Hello", cancellation=token)
    assert result.stop_reason is StopReason.CANCELLED_BY_CALLER
    assert result.turn is None
    assert chat.messages == ()


def test_a_stop_string_ends_an_answer_and_the_conversation_goes_on(engine: Engine) -> None:
    chat = engine.chat()
    whole = chat.send("Hello", **GREEDY).text
    cut = chat.regenerate(stop=whole[2], **GREEDY)
    assert cut.stop_reason is StopReason.STOP_SEQUENCE
    assert chat.messages[-1]["content"] == whole[:2]
    prompt = chat.render([*chat.messages, {"role": "user", "content": "Again"}])
    expected = engine.generate(prompt, parse_special=True, **GREEDY)
    assert chat.send("Again", **GREEDY).token_ids == expected.token_ids


@pytest.mark.parametrize("policy", ["truncate_middle", "sliding"])
def test_a_shortened_prompt_is_not_taken_for_the_whole(engine: Engine, policy: str) -> None:
    chat = engine.chat()
    chat.send("x" * 300, context_overflow=policy, **GREEDY)
    again = chat.send("y", context_overflow=policy, **GREEDY)
    assert 150 < again.usage.prompt_tokens < 256
    assert chat._exchange.conversation.turns[0].trail is None


def test_an_answer_that_slid_out_of_the_context_goes_on(engine: Engine) -> None:
    chat = engine.chat()
    long = chat.send("x" * 200, context_overflow="sliding", **{**GREEDY, "max_tokens": 60})
    assert len(long.token_ids) == 60
    assert chat._exchange.conversation.turns[0].trail is None
    assert chat.send("y", context_overflow="sliding", **GREEDY).turn == 1


def test_a_fork_shares_what_was_computed(engine: Engine) -> None:
    chat = engine.chat()
    first = chat.send("one", **GREEDY)
    there = chat.fork().send("two", **GREEDY)
    assert there.usage.cached_tokens == first.usage.total_tokens - 1


# -- asyncio -----------------------------------------------------------------------------------


def test_a_conversation_goes_on_under_asyncio(engine: Engine) -> None:
    async def talk() -> list[tuple[int, ...]]:
        with engine.chat() as chat:
            first = await chat.asend("one", **GREEDY)
            streamed = [chunk.token_id async for chunk in chat.astream("two", **GREEDY)]
            assert chat.last_result is not None
            assert chat.last_result.token_ids == tuple(t for t in streamed if t is not None)
            assert chat.last_result.turn == 1
            return [first.token_ids, chat.last_result.token_ids]

    with engine.chat() as chat:
        expected = [chat.send(text, **GREEDY).token_ids for text in ("one", "two")]
    assert asyncio.run(talk()) == expected


def test_cancelling_the_task_keeps_what_was_said(engine: Engine) -> None:
    async def talk() -> tuple[int, str]:
        chat = engine.chat()
        said = asyncio.Event()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(
            chat.asend(
                "one",
                on_token=lambda _: loop.call_soon_threadsafe(said.set),
                **{**GREEDY, "max_tokens": 200},
            )
        )
        await said.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert chat.last_result is not None
        return chat.turns, chat.last_result.stop_reason

    assert asyncio.run(talk()) == (1, StopReason.CANCELLED_BY_CALLER)
