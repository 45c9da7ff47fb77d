"""Grammars are compiled once, kept in bounded number, and shared by threads."""

from __future__ import annotations

import sys
import threading

import pytest

from smallmind_engine.grammar import (
    KINDS,
    Choice,
    Forms,
    Grammar,
    GrammarCache,
    JsonObject,
    JsonSchema,
    Regex,
    ResponseFormat,
    from_record,
    to_record,
)
from smallmind_engine.telemetry import InferenceError, MissingExtraError, ReasonCode
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.tokenizers import Tokenizer, TokenizerFactory
from tokenizer_models import bpe_metadata

FORMATS: list[ResponseFormat] = [
    JsonSchema({"type": "integer"}, whitespace=True),
    JsonObject(),
    Regex("a/b\n"),
    Choice(["é", "\n"]),
    Grammar('root ::= "a"'),
    Forms((("a", JsonSchema({"enum": [1]})), ("b",))),
]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return TokenizerFactory.create(bpe_metadata())


def test_a_grammar_is_compiled_once(tokenizer: Tokenizer) -> None:
    cache = GrammarCache(tokenizer)
    assert [cache.compiled(Regex("a")).cached for _ in range(2)] == [False, True]
    assert not cache.compiled(Regex("b")).cached


def test_what_was_used_longest_ago_makes_room(tokenizer: Tokenizer) -> None:
    cache = GrammarCache(tokenizer, capacity=2)
    for pattern in ("a", "b", "a", "c"):
        cache.compiled(Regex(pattern))
    assert len(cache) == 2
    assert [cache.compiled(Regex(each)).cached for each in ("a", "c", "b")] == [True, True, False]


def test_a_grammar_that_was_refused_is_refused_again(tokenizer: Tokenizer) -> None:
    cache = GrammarCache(tokenizer)
    for _ in range(2):
        with pytest.raises(ConfigError):
            cache.compiled(Regex("("))
    assert not len(cache)


def test_texts_do_not_disturb_each_other(tokenizer: Tokenizer) -> None:
    grammar = GrammarCache(tokenizer).compiled(Regex("[ab]c"))
    first, second = grammar.constraint(), grammar.constraint()
    first.accept(tokenizer.encode("a", add_special=False)[0])
    assert first.allowed().sum() == 1
    assert second.allowed().sum() == 2


def test_many_threads_share_a_cache(tokenizer: Tokenizer) -> None:
    cache = GrammarCache(tokenizer, capacity=3)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(40):
                letter = "abcde"[(number + step) % 5]
                constraint = cache.compiled(Regex(f"{letter}{{3}}")).constraint()
                for _ in range(3):
                    (token_id,) = constraint.allowed().nonzero()[0][:1]
                    constraint.accept(int(token_id))
                    if constraint.complete:
                        break
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("wanted", FORMATS, ids=[each.kind for each in FORMATS])
def test_a_format_is_recorded_whole(wanted: ResponseFormat) -> None:
    assert from_record(to_record(wanted)) == wanted


def test_every_kind_is_among_the_formats() -> None:
    assert tuple(each.kind for each in FORMATS) == KINDS


def test_a_record_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="picture"):
        from_record('{"kind": "picture", "value": 1}')


def test_slashes_and_line_breaks_in_an_expression_are_its_own(tokenizer: Tokenizer) -> None:
    cache = GrammarCache(tokenizer)
    for pattern, text in (("a/b", "a/b"), ("a\\/b", "a/b"), ("a\nb", "a\nb"), ("a\\\nb", "a\nb")):
        assert cache.compiled(Regex(pattern)).matches(text), pattern


def test_tokens_that_end_a_text_are_never_part_of_one(tokenizer: Tokenizer) -> None:
    name = tokenizer.token_text(next(iter(tokenizer.eog_ids)))
    constraint = GrammarCache(tokenizer).compiled(Choice([name])).constraint()
    assert not constraint.allowed()[sorted(tokenizer.eog_ids)].any()


def test_control_tokens_of_a_form_are_taken_as_such(tokenizer: Tokenizer) -> None:
    name, control = "<|im_end|>", 267
    tokenizer = TokenizerFactory.create(bpe_metadata(eos_token_id=266))
    assert tokenizer.token_text(control) == name
    forms = Forms(((name.replace("|", "") + "a",), ("<tool>a",)))
    constraint = GrammarCache(tokenizer).compiled(forms).constraint()
    assert not constraint.allowed()[control]


def test_a_vocabulary_without_an_end_is_served() -> None:
    tokenizer = TokenizerFactory.create(
        bpe_metadata(tokens=list("ab"), token_type=None, merges=[], eos_token_id=None)
    )
    assert not tokenizer.eog_ids
    constraint = GrammarCache(tokenizer).compiled(Regex("ab")).constraint()
    for expected in ([True, False], [False, True]):
        allowed = constraint.allowed()
        assert allowed.tolist() == expected
        constraint.accept(int(allowed.argmax()))
    assert constraint.complete
    assert not constraint.allowed().any()


def test_what_the_vocabulary_cannot_write_is_an_error_with_a_reason() -> None:
    tokenizer = TokenizerFactory.create(
        bpe_metadata(tokens=[*"ab", "</s>"], token_type=[1, 1, 3], merges=[], eos_token_id=2)
    )
    constraint = GrammarCache(tokenizer).compiled(Regex("ax")).constraint()
    constraint.accept(0)
    with pytest.raises(InferenceError, match="no token") as caught:
        constraint.allowed()
    assert caught.value.reason is ReasonCode.GRAMMAR_FAILED


def test_a_token_that_is_not_allowed_is_refused(tokenizer: Tokenizer) -> None:
    constraint = GrammarCache(tokenizer).compiled(Regex("a")).constraint()
    with pytest.raises(InferenceError) as caught:
        constraint.accept(tokenizer.encode("b", add_special=False)[0])
    assert caught.value.reason is ReasonCode.GRAMMAR_FAILED


@pytest.mark.parametrize("package", ["llguidance", "jsonschema"])
def test_a_missing_package_is_named_with_its_extra(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"smallmind\[structured\]"):
        GrammarCache(tokenizer).compiled(JsonSchema({}))
