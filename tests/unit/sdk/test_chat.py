"""Chat: the model's template, the conversation kept, the cache reused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import tiny_engine
from smallmind import ChatOptions, Engine
from smallmind_engine.telemetry.errors import ChatTemplateError, ConcurrentSessionUseError
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


def test_a_model_without_a_template_needs_one(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, TinyModel(chat_template=None)) as engine:
        with pytest.raises(ChatTemplateError, match="no chat template"):
            engine.chat()
        chat = engine.chat(options=ChatOptions(template="{{ messages[0]['content'] }}!"))
        assert chat.send("Hello", **GREEDY).usage.prompt_tokens == 6
