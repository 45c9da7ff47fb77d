"""Texts that come back, do not by design, or do not although they should."""

from __future__ import annotations

import pytest

from smallmind.validation.checks.losses import Return, round_trip
from smallmind.validation.checks.texts import TEXTS
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry.errors import OperationCancelledError
from smallmind_engine.tokenizers import Tokenizer, TokenizerFactory
from tiny_encoders import bert_metadata
from tokenizer_models import bpe_metadata, spm_metadata, unigram_metadata
from validation_faults import FaultyTokenizer

FILES = {
    "bpe": bpe_metadata(),
    "bpe without merges": bpe_metadata(merges=None),
    "token table": spm_metadata(),
    "token table without scores": spm_metadata(scores=None),
    "token table without a space before texts": spm_metadata(add_space_prefix=False),
    "unigram": unigram_metadata(),
    "unigram that keeps spaces": unigram_metadata(remove_extra_whitespaces=False),
    "wordpiece": bert_metadata(),
    "bytes": {},
}


def tokenizer_of(name: str) -> Tokenizer:
    return TokenizerFactory.create(FILES[name])


@pytest.mark.parametrize("name", FILES)
def test_no_sound_tokenizer_is_blamed(name: str) -> None:
    tokenizer = tokenizer_of(name)
    blamed = [
        result.told
        for text in TEXTS
        if (result := round_trip(tokenizer, text, WorkLimit())).how is Return.WRONG
    ]
    assert blamed == []


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("token table", "a▁b", "▁ is its sign for a space"),
        ("bytes", "a\ud800", "a lone surrogate is read as U+FFFD"),
        ("wordpiece", "The  CAT", "it changes texts before it cuts them"),
        ("wordpiece", "漢", "it has no tokens for some characters"),
    ],
)
def test_what_is_lost_by_design_is_told(name: str, text: str, told: str) -> None:
    result = round_trip(tokenizer_of(name), text, WorkLimit())
    assert (result.how, result.told) == (Return.BY_DESIGN, told)


def test_a_text_that_comes_back_is_exact() -> None:
    assert round_trip(tokenizer_of("bpe"), "a b", WorkLimit()).how is Return.EXACT


@pytest.mark.parametrize("name", ["bpe", "token table", "unigram", "wordpiece", "bytes"])
def test_a_decoder_that_says_something_else_is_wrong_with_any_tokenizer(name: str) -> None:
    faulty = FaultyTokenizer(tokenizer_of(name), decode=lambda ids, **_: "something else")
    assert round_trip(faulty, "a", WorkLimit()).how is Return.WRONG


def test_a_stream_that_differs_from_the_whole_is_wrong() -> None:
    sound = tokenizer_of("bpe")
    faulty = FaultyTokenizer(sound, token_bytes=lambda token_id, **_: b"?")
    result = round_trip(faulty, "ab", WorkLimit())
    assert (result.how, "but streams '??'" in result.told) == (Return.WRONG, True)


def test_ids_outside_the_vocabulary_are_wrong() -> None:
    sound = tokenizer_of("bpe")
    faulty = FaultyTokenizer(sound, encode=lambda text, **_: [sound.vocab_size])
    assert "outside the vocabulary" in round_trip(faulty, "a", WorkLimit()).told


def test_it_can_be_stopped() -> None:
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        round_trip(tokenizer_of("bpe"), "a", WorkLimit(token))
