"""How text becomes ids and ids become text, on models small enough to check on paper."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.telemetry.errors import OperationCancelledError, TokenizerError
from smallmind_engine.telemetry.reasons import ReasonCode
from smallmind_engine.tokenizers import (
    StreamingDetokenizer,
    Tokenizer,
    TokenizerFactory,
    TokenizerMode,
    words,
)
from smallmind_engine.tokenizers.byte_level import from_byte_level, text_bytes
from smallmind_engine.tokenizers.merging import merge_symbols
from tokenizer_models import bpe_metadata, generated_texts, spm_metadata, unigram_metadata


def pieces(metadata: dict[str, object], text: str) -> list[str]:
    tokenizer = TokenizerFactory.create(metadata)
    return [tokenizer.token_text(i) for i in tokenizer.encode(text, add_special=False)]


def test_merges_apply_in_the_order_of_their_ranks() -> None:
    assert pieces(bpe_metadata(), "hello worldaaaaa") == ["hello", "Ġwor", "ld", "aaaa", "a"]


def test_a_merge_whose_result_is_no_token_does_not_end_merging() -> None:
    """The unknown symbol is spelled by its bytes, and the rest is merged as ever."""
    metadata = bpe_metadata(merges=["x y", "h e", "l l", "he ll", "hell o"])

    assert pieces(metadata, "xyhello") == ["x", "y", "hello"]


def test_of_equal_merge_rules_the_first_counts() -> None:
    metadata = bpe_metadata(merges=["l l", "h e", "l l", "he ll"])

    assert pieces(metadata, "hell") == ["hell"]


def test_a_byte_without_a_token_is_left_out_and_nothing_merges_across_it() -> None:
    metadata = bpe_metadata()
    tokens = list(metadata["tokenizer.ggml.tokens"])
    tokens[1] = "other"

    assert pieces(bpe_metadata(tokens=tokens), "l\x01l") == ["l", "l"]


def test_a_word_that_is_a_token_may_win_over_its_merges() -> None:
    metadata = bpe_metadata(merges=["h e"])

    assert pieces(metadata, "hello") == ["he", "l", "l", "o"]
    assert pieces({**metadata, "tokenizer.ggml.pre": "llama-bpe"}, "hello") == ["hello"]


def test_smollm_takes_digits_one_by_one() -> None:
    metadata = bpe_metadata(merges=["1 2"], pre="smollm")

    assert pieces(metadata, "12") == ["1", "2"]


def test_without_merges_the_longest_token_is_taken() -> None:
    assert pieces(bpe_metadata(merges=None), "hello worldé") == ["hello", "Ġwor", "ld", "Ã", "©"]


def test_best_scores_merge_first() -> None:
    """At "abc", "ab" scores below "bc"."""
    assert pieces(spm_metadata(), "abc") == ["▁", "a", "bc"]


def test_the_space_before_a_text_follows_special_tokens_too() -> None:
    assert pieces(spm_metadata(), "hello<tool>hello") == ["▁hello", "<tool>", "▁hello"]
    assert pieces(spm_metadata(add_space_prefix=False), "hello") == ["h", "e", "llo"]


def test_text_without_tokens_is_spelled_in_bytes() -> None:
    assert pieces(spm_metadata(), "é") == ["▁", "<0xC3>", "<0xA9>"]


def test_without_byte_tokens_text_becomes_the_unknown_token() -> None:
    tokens = ["<unk>", "<s>", "</s>", "▁", "a"]
    metadata = spm_metadata(tokens=tokens, token_type=[2, 3, 3, 1, 1], scores=[0.0] * 5)

    assert pieces(metadata, "aé") == ["▁", "a", "<unk>", "<unk>"]


def test_byte_level_merging_by_score_spells_nothing_for_lost_bytes() -> None:
    tokens = list(bpe_metadata()["tokenizer.ggml.tokens"])
    tokens[ord("z")] = "other"
    by_score = TokenizerFactory.create(
        bpe_metadata(tokens=tokens, scores=[0.0] * 269), mode=TokenizerMode.TOKEN_TABLE
    )

    assert by_score.decode(by_score.encode("hello z")) == "hello "


def test_tokens_with_a_space_inside_are_still_found() -> None:
    """Text is cut at spaces only where no token reaches across."""
    metadata = spm_metadata()
    tokens = [*metadata["tokenizer.ggml.tokens"], "a▁", "a▁b"]
    types = [*metadata["tokenizer.ggml.token_type"], 1, 1]
    scores = [*metadata["tokenizer.ggml.scores"], 5.0, 6.0]

    assert pieces(spm_metadata(tokens=tokens, token_type=types, scores=scores), "a bc") == [
        "▁",
        "a▁b",
        "c",
    ]


def test_unigram_takes_the_likeliest_segmentation() -> None:
    """ "▁abc" costs 9 as one token; "▁a" + "bc" costs 7.4; "▁" + "abc" costs 8."""
    assert pieces(unigram_metadata(), "abc") == ["▁a", "bc"]


def test_unigram_merges_spaces_and_unknown_characters() -> None:
    assert pieces(unigram_metadata(), "  abc   éèc  ") == ["▁a", "bc", "▁", "<unk>", "c"]


def test_unigram_keeps_spaces_when_told_to() -> None:
    metadata = unigram_metadata(remove_extra_whitespaces=False)

    assert pieces(metadata, " a  ") == ["▁", "▁a", "▁", "▁"]


def test_unigram_appends_eos() -> None:
    assert TokenizerFactory.create(unigram_metadata()).encode("a")[-1] == 1


def test_bytes_are_ids_without_a_vocabulary() -> None:
    tokenizer = TokenizerFactory.create({}, expected_vocab_size=1_000)

    assert tokenizer.encode("hié") == [104, 105, 0xC3, 0xA9]
    assert tokenizer.decode([104, 105, 0xC3, 0xA9, 999]) == "hié"
    assert tokenizer.token_text(104) == "<0x68>"


def test_a_byte_beyond_the_rows_of_the_model_is_a_clear_error() -> None:
    tokenizer = TokenizerFactory.create({}, expected_vocab_size=128)

    with pytest.raises(TokenizerError, match="0xa9") as raised:
        tokenizer.encode("é")

    assert raised.value.reason == ReasonCode.TOKENIZER_VOCAB_PARTIAL


@pytest.mark.parametrize("token_id", [-1, 269, 10**30, 1.5, None, "a"])
def test_an_id_outside_the_vocabulary_is_a_clear_error(token_id) -> None:
    tokenizer = TokenizerFactory.create(bpe_metadata())

    for use in (
        lambda: tokenizer.decode([token_id]),
        lambda: tokenizer.token_bytes(token_id),
        lambda: tokenizer.token_text(token_id),
        lambda: StreamingDetokenizer(tokenizer).push(token_id),
    ):
        with pytest.raises(TokenizerError, match="268") as raised:
            use()
        assert raised.value.reason == ReasonCode.TOKENIZER_TOKEN_ID_INVALID


def test_ids_may_be_numpy_integers() -> None:
    tokenizer = TokenizerFactory.create(bpe_metadata())

    assert tokenizer.decode(np.array(tokenizer.encode("hi"), np.int64)) == "hi"


def test_invalid_utf8_is_shown_as_replacement_characters() -> None:
    tokenizer = TokenizerFactory.create({})

    assert tokenizer.decode([97, 0xFF, 98, 0xE2, 0x82]) == "a\ufffdb\ufffd"


def test_vocabulary_bytes_that_are_no_utf8_survive() -> None:
    assert text_bytes("\udcff") == b"\xff"
    assert text_bytes("\ud800") == b"\xef\xbf\xbd"
    assert from_byte_level("☺") == b"\xe2\x98\xba"


def test_half_a_character_is_held_back_until_it_is_whole() -> None:
    stream = StreamingDetokenizer(TokenizerFactory.create({}))

    assert [stream.push(b) for b in (0xE2, 0x82, 0xAC, 0x61, 0xF0)] == ["", "", "€", "a", ""]
    assert stream.flush() == "\ufffd"
    assert stream.push(0x62) == "b"


def test_a_stream_that_continues_text_keeps_its_first_space() -> None:
    tokenizer = TokenizerFactory.create(spm_metadata())
    hello = tokenizer.encode("hello", add_special=False)

    assert StreamingDetokenizer(tokenizer).push(hello[0]) == "hello"
    assert StreamingDetokenizer(tokenizer, prompt_ids=[1]).push(hello[0]) == "hello"
    assert StreamingDetokenizer(tokenizer, prompt_ids=[1, *hello]).push(hello[0]) == " hello"


class _CountingClock:
    """Seconds that are the number of times it was asked."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> float:
        self.now += 1
        return float(self.now)


LONG = 200_000


@pytest.mark.parametrize(
    ("metadata", "text", "looks"),
    [
        (bpe_metadata(), "a" * LONG, 150),
        (spm_metadata(), "a" * LONG, 150),
        (bpe_metadata(merges=None), "é" * LONG, 150),
        (unigram_metadata(), "b" * LONG, 150),
        (bpe_metadata(), "hello " * (LONG // 6), 50),
        (spm_metadata(), "hello " * (LONG // 6), 50),
        (spm_metadata(), "<tool>" * (LONG // 6), 40),
        ({}, "a" * 10 * LONG, 20),
    ],
)
def test_a_long_text_looks_at_its_limit_all_the_time(metadata, text, looks) -> None:
    """So that no stretch between two looks is longer than a hundredth of the whole, or so."""
    clock = _CountingClock()
    tokenizer = TokenizerFactory.create(metadata)

    ids = tokenizer.encode(text, limit=WorkLimit(deadline_s=1e9, clock=clock))

    assert clock.now >= looks
    assert len(ids) > 0


def test_encoding_stops_at_its_deadline_inside_a_word() -> None:
    tokenizer = TokenizerFactory.create(bpe_metadata())

    with pytest.raises(OperationCancelledError) as raised:
        tokenizer.encode("a" * LONG, limit=WorkLimit(deadline_s=100, clock=_CountingClock()))

    assert raised.value.reason == ReasonCode.CANCELLED_BY_TIMEOUT


def test_encoding_stops_when_it_is_cancelled() -> None:
    token = CancellationToken()
    token.cancel()

    with pytest.raises(OperationCancelledError):
        TokenizerFactory.create(bpe_metadata()).encode("a", limit=WorkLimit(token))


def test_merging_asks_for_a_bounded_number_of_ranks_a_symbol() -> None:
    """Four times the text, four times the work: nothing is quadratic."""

    def asked(count: int) -> int:
        calls = 0

        def rank(left: str, right: str) -> float | None:
            nonlocal calls
            calls += 1
            return float(len(left + right)) if len(left) == len(right) else None

        merge_symbols("a" * count, rank, NO_LIMIT)
        return calls

    assert asked(32_768) <= 4.1 * asked(8_192)


def test_the_word_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MAX_WORDS", 8)
    tokenizer = TokenizerFactory.create(bpe_metadata())
    text = " ".join(map(str, range(1_000)))

    assert text == tokenizer.decode(tokenizer.encode(text))
    assert len(tokenizer._words._known) <= 8


@pytest.mark.parametrize("metadata", [bpe_metadata(), spm_metadata(), unigram_metadata()])
def test_many_threads_get_the_ids_of_one(metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MAX_WORDS", 16)
    texts = generated_texts(9, 60)
    alone = TokenizerFactory.create(metadata)
    expected = [(ids := alone.encode(text), alone.decode(ids)) for text in texts]
    shared: Tokenizer = TokenizerFactory.create(metadata)
    found: list[list[tuple[list[int], str]]] = []
    together = threading.Barrier(6)

    def work() -> None:
        together.wait()
        found.append([(ids := shared.encode(text), shared.decode(ids)) for text in texts])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [expected] * 6 == found
