"""Which chat template is taken: the model's, a caller's, or one that was guessed and told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chat_templates import oracle
from engines import Recorder, tiny_engine
from smallmind import ChatOptions, Engine
from smallmind._chat_choice import guess_family, is_token, named_templates
from smallmind.chat import FAMILIES, TemplateOrigin
from smallmind_engine.telemetry import (
    ChatTemplateError,
    Degraded,
    DegradeReason,
    ReasonCode,
    RuntimeLogEvent,
)
from smallmind_engine.tokenizers import Tokenizer, TokenizerFactory
from tiny_models import TinyModel
from tokenizer_models import CONTROL, NORMAL, bpe_metadata, spm_metadata

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 3}
ENDS = {"bos_token": "<s>", "eos_token": "</s>"}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye"},
]

# As the formats are published by their makers: Llama 2 and 3, Mistral 0.3, Gemma, Phi-3, Zephyr.
RENDERED = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
    "<|im_start|>assistant\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello! </s>"
    "<s>[INST] Bye [/INST]",
    "mistral": "<s>[INST] Be brief.\n\nHi[/INST] Hello!</s>[INST] Bye[/INST]",
    "gemma": "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n"
    "<start_of_turn>model\nHello!<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n"
    "<start_of_turn>model\n",
    "phi3": "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n"
    "<|user|>\nBye<|end|>\n<|assistant|>\n",
    "zephyr": "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello!</s>\n"
    "<|user|>\nBye</s>\n<|assistant|>\n",
    "plain": "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello!\n\n"
    "### Instruction:\nBye\n\n### Response:\n",
}


@contextmanager
def engine_of(folder: Path, **model: Any) -> Iterator[tuple[Engine, Recorder]]:
    recorder = Recorder()
    with tiny_engine(folder, TinyModel(**model), exporters=[recorder]) as engine:
        yield engine, recorder


def tokenizer_with(*special: str, spm: bool = False) -> Tokenizer:
    metadata = spm_metadata() if spm else bpe_metadata()
    tokens = [*metadata["tokenizer.ggml.tokens"], *special]  # type: ignore[misc]
    types = [NORMAL] * (len(tokens) - len(special)) + [CONTROL] * len(special)
    changes: dict[str, Any] = {"tokens": tokens, "token_type": types}
    if spm:
        changes["scores"] = [0.0] * len(tokens)
    return TokenizerFactory.create((spm_metadata if spm else bpe_metadata)(**changes))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_writes_a_conversation_as_it_is_published(tmp_path: Path, name: str) -> None:
    with engine_of(tmp_path, chat_template=None) as (engine, _):
        chat = engine.chat(options=ChatOptions(template=name))
        rendered = chat.render(TALK)
    expected = RENDERED[name].replace("</s>", "<|endoftext|>").replace("<s>", "<|endoftext|>")
    assert rendered == expected
    assert (
        oracle(
            FAMILIES[name].source,
            messages=TALK,
            **ENDS,
            add_generation_prompt=True,
        )
        == RENDERED[name]
    )


@pytest.mark.parametrize(
    ("special", "architecture", "expected", "because"),
    [
        (("<|im_start|>", "<|im_end|>"), "llama", "chatml", "the vocabulary has"),
        (
            ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
            "llama",
            "llama3",
            "the vocabulary has",
        ),
        (("<start_of_turn>", "<end_of_turn>"), "llama", "gemma", "the vocabulary has"),
        (("<|user|>", "<|assistant|>", "<|end|>"), "llama", "phi3", "the vocabulary has"),
        (("<|user|>", "<|assistant|>"), "llama", "zephyr", "the vocabulary has"),
        (("[INST]", "[/INST]"), "llama", "mistral", "the vocabulary has"),
        (("[INST]",), "phi3", "phi3", "the architecture is phi3"),
        ((), "qwen3", "chatml", "the architecture is qwen3"),
        ((), "gemma3", "gemma", "the architecture is gemma3"),
        ((), "gpt2", "plain", "the architecture is gpt2"),
        ((), "llama", "plain", "nothing in the file"),
    ],
)
def test_a_family_is_guessed_from_vocabulary_then_architecture(
    special: tuple[str, ...], architecture: str, expected: str, because: str
) -> None:
    family, why = guess_family(tokenizer_with(*special), architecture)
    assert family.name == expected
    assert why.startswith(because)


def test_a_llama_model_with_a_token_table_is_of_the_second_family() -> None:
    assert guess_family(tokenizer_with(spm=True), "llama")[0].name == "llama2"


def test_a_guess_is_told_on_the_bus_and_in_the_log(tmp_path: Path) -> None:
    with engine_of(tmp_path, chat_template=None) as (engine, recorder):
        chat = engine.chat(options=ChatOptions(session_id="talk"))
        assert chat.template.origin is TemplateOrigin.FALLBACK
        assert chat.send("Hello", **GREEDY).template == "chatml"
    (degraded,) = recorder.of(Degraded)
    assert degraded.reason is DegradeReason.CHAT_TEMPLATE_FALLBACK
    assert degraded.correlation.session_id == "talk"
    assert "chatml is used: the vocabulary has <|im_start|>" in degraded.message
    (line,) = [e for e in recorder.of(RuntimeLogEvent) if e.component == "chat"]
    assert line.reason is ReasonCode.CHAT_TEMPLATE_FALLBACK
    assert line.properties["template"] == "chatml"


def test_the_models_own_template_is_told_to_nobody(tmp_path: Path) -> None:
    with engine_of(tmp_path) as (engine, recorder):
        chat = engine.chat()
        assert (chat.template.origin, chat.template.name) == (TemplateOrigin.MODEL, "default")
    assert recorder.of(Degraded) == []


def test_who_is_strict_gets_an_error_instead_of_a_guess(tmp_path: Path) -> None:
    with engine_of(tmp_path, chat_template=None) as (engine, _):
        with pytest.raises(ChatTemplateError, match="would be 'chatml'") as caught:
            engine.chat(options=ChatOptions(strict_template=True))
        assert caught.value.reason is ReasonCode.CHAT_TEMPLATE_MISSING


def test_a_name_that_nobody_knows_is_told_with_those_that_are_known(tmp_path: Path) -> None:
    with engine_of(tmp_path) as (engine, _), pytest.raises(ChatTemplateError, match="llama3, gem"):
        engine.chat(options=ChatOptions(template="vicuna"))


def test_a_file_may_have_more_templates_by_name(tmp_path: Path) -> None:
    model = TinyModel(
        named_templates={"brief": "B{{ messages[0].content }}", "tool_use": "T{{ tools }}"}
    )
    with tiny_engine(tmp_path, model) as engine:
        chat = engine.chat(options=ChatOptions(template="brief"))
        assert (chat.template.name, chat.template.origin) == ("brief", TemplateOrigin.MODEL)
        assert chat.render(TALK) == "BBe brief."
        own = engine.chat()
        assert own.render(TALK) == RENDERED["chatml"]
        assert own.template.knows_tools
        assert own.template.source_for(tools=True) == "T{{ tools }}"


def test_a_file_with_named_templates_only_uses_the_first(tmp_path: Path) -> None:
    model = TinyModel(chat_template=None, named_templates={"brief": "B", "other": "O"})
    with tiny_engine(tmp_path, model) as engine:
        chat = engine.chat()
        assert (chat.template.name, chat.render(TALK)) == ("brief", "B")


def test_named_templates_that_are_no_text_are_passed_over() -> None:
    metadata = {
        "tokenizer.chat_templates": ["a", "b", 3],
        "tokenizer.chat_template.a": "A",
        "tokenizer.chat_template.b": 7,
        "tokenizer.chat_template.c": "C",
    }
    assert named_templates(metadata) == {"a": "A", "c": "C"}
    assert named_templates({"tokenizer.chat_templates": "a"}) == {}


def test_a_family_ends_answers_by_text_where_the_vocabulary_has_no_token(tmp_path: Path) -> None:
    with engine_of(tmp_path) as (engine, _):
        assert engine.chat(options=ChatOptions(template="chatml")).template.stops == ()
        plain = engine.chat(options=ChatOptions(template="plain"))
        assert plain.template.stops == ("\n### Instruction:",)
        assert plain.send("Hello", **GREEDY).text


def test_a_token_is_one_control_or_user_defined_token() -> None:
    tokenizer = tokenizer_with("<|im_end|>x")
    assert is_token(tokenizer, "<|im_end|>x")
    assert not is_token(tokenizer, "hello")
    assert not is_token(tokenizer, "<|im_end|>x<|im_end|>x")


@pytest.mark.model
def test_a_base_model_is_given_the_format_of_its_family(gemma3_path: Path) -> None:
    import smallmind

    recorder = Recorder()
    with smallmind.load(gemma3_path, exporters=[recorder]) as engine:
        chat = engine.chat("Be brief.")
        assert chat.template.name == "gemma"
        assert chat.send("Hi", max_tokens=2).usage.prompt_tokens > 5
    reasons = [event.reason for event in recorder.of(Degraded)]
    assert DegradeReason.CHAT_TEMPLATE_FALLBACK in reasons
