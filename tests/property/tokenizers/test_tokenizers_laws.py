"""Laws that hold for every text, every sequence of ids and every metadata."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smallmind_engine.control import NO_LIMIT
from smallmind_engine.telemetry.errors import TokenizerError
from smallmind_engine.tokenizers import StreamingDetokenizer, TokenizerFactory, TokenizerMode
from smallmind_engine.tokenizers.merging import merge_symbols
from smallmind_engine.tokenizers.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from tokenizer_models import bpe_metadata, spm_metadata, unigram_metadata

fixed = settings(derandomize=True, deadline=None, max_examples=60)

any_text = st.text(max_size=60)
likely_text = st.text(alphabet="aabcdehlorw  ▁<>0x\n'1", max_size=60)
texts = any_text | likely_text

BPE = TokenizerFactory.create(bpe_metadata())
NO_MERGES = TokenizerFactory.create(bpe_metadata(merges=None))
SPM = TokenizerFactory.create(spm_metadata())
SPM_BARE = TokenizerFactory.create(spm_metadata(add_space_prefix=False))
SPM_NO_SCORES = TokenizerFactory.create(spm_metadata(scores=None))
UNIGRAM = TokenizerFactory.create(unigram_metadata())
BYTES = TokenizerFactory.create({})
BYTES_OF_SPM = TokenizerFactory.create(spm_metadata(), mode=TokenizerMode.BYTE)
ALL = (BPE, NO_MERGES, SPM, SPM_BARE, SPM_NO_SCORES, UNIGRAM, BYTES, BYTES_OF_SPM)


@fixed
@given(text=texts)
def test_byte_level_models_give_back_every_text(text: str) -> None:
    for tokenizer in (BPE, NO_MERGES, BYTES, BYTES_OF_SPM):
        assert text == tokenizer.decode(tokenizer.encode(text, add_special=False))


@fixed
@given(text=texts.filter(lambda text: "▁" not in text))
@example(text="<tool> a  b")
def test_token_tables_give_back_every_text_without_the_space_mark(text: str) -> None:
    assert text == SPM_BARE.decode(SPM_BARE.encode(text, add_special=False))


@fixed
@given(text=texts.filter(lambda text: "▁" not in text and "<tool>" not in text))
def test_the_space_before_a_text_is_taken_away_again(text: str) -> None:
    for tokenizer in (SPM, SPM_NO_SCORES):
        assert text == tokenizer.decode(tokenizer.encode(text), skip_special=True)


@fixed
@given(text=texts, parse_special=st.booleans())
def test_ids_are_inside_the_vocabulary(text: str, parse_special: bool) -> None:  # noqa: FBT001
    for tokenizer in ALL:
        ids = tokenizer.encode(text, parse_special=parse_special)
        assert all(0 <= token_id < tokenizer.vocab_size for token_id in ids)


@fixed
@given(data=st.data(), skip_special=st.booleans())
def test_streamed_text_is_the_decoded_text_in_whole_characters(
    data: st.DataObject,
    skip_special: bool,  # noqa: FBT001
) -> None:
    tokenizer = data.draw(st.sampled_from(ALL))
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    stream = StreamingDetokenizer(tokenizer, skip_special=skip_special)

    chunks = [*map(stream.push, ids), stream.flush()]

    assert tokenizer.decode(ids, skip_special=skip_special) == "".join(chunks)


@fixed
@given(text=any_text)
def test_streaming_valid_text_never_shows_a_replacement_character(text: str) -> None:
    text = text.replace("\ufffd", "")
    stream = StreamingDetokenizer(BYTES)

    chunks = list(map(stream.push, BYTES.encode(text)))

    assert text == "".join(chunks)
    assert stream.flush() == ""


@fixed
@given(
    symbols=st.text(alphabet="abc", max_size=80),
    ranks=st.dictionaries(st.text(alphabet="abc", min_size=2, max_size=6), st.integers(0, 5)),
)
@example(symbols="ab" * 20, ranks={"ab": 0, "aba": 1, "abab": 2})
def test_merging_picks_the_best_then_leftmost_pair(symbols: str, ranks: dict[str, int]) -> None:
    expected = list(symbols)
    while True:
        pairs = [
            (ranks[left + right], place)
            for place, (left, right) in enumerate(pairwise(expected))
            if left + right in ranks
        ]
        if not pairs:
            break
        place = min(pairs)[1]
        expected[place : place + 2] = ["".join(expected[place : place + 2])]

    actual = merge_symbols(symbols, lambda left, right: ranks.get(left + right), NO_LIMIT)

    assert expected == actual


@fixed
@given(text=likely_text.map(lambda text: text.replace("<tool>", "")))
def test_cutting_at_spaces_changes_no_token(text: str) -> None:
    spelled = text.replace(" ", "▁")
    whole = SPM_BARE._merge_word(spelled, NO_LIMIT)

    assert whole == SPM_BARE.encode(text, add_special=False)


@fixed
@given(text=texts, name=st.sampled_from(sorted(PRE_TOKENIZERS)))
def test_pre_tokenizers_lose_nothing(text: str, name: str) -> None:
    words = list(PreTokenizer(PRE_TOKENIZERS[name].stages).split(text))

    assert text == "".join(words)
    assert "" not in words


_odd: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.one_of(st.text(max_size=4), st.integers(-5, 10), st.none(), st.floats())),
    st.just(np.array([1.0, np.nan, np.inf])),
    st.just(np.array(["a", "b"])),
    st.just(np.array(3)),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
_KEYS = [
    "model",
    "pre",
    "tokens",
    "token_type",
    "scores",
    "merges",
    "bos_token_id",
    "eos_token_id",
    "unknown_token_id",
    "padding_token_id",
    "add_bos_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    base=st.sampled_from([bpe_metadata, spm_metadata, unigram_metadata, dict]),
    changes=st.dictionaries(st.sampled_from(_KEYS), _odd, max_size=4),
    mode=st.sampled_from(TokenizerMode),
    size=st.none() | st.integers(0, 600),
)
def test_no_metadata_makes_an_untyped_error(
    base: Callable[[], dict[str, object]],
    changes: dict[str, object],
    mode: TokenizerMode,
    size: int | None,
) -> None:
    metadata = {**base(), **{f"tokenizer.ggml.{key}": value for key, value in changes.items()}}

    tokenizer = TokenizerFactory.create(metadata, mode=mode, expected_vocab_size=size)
    try:
        tokenizer.decode(tokenizer.encode("hello wörld <tool> </s>", parse_special=True))
    except TokenizerError:
        assert tokenizer.kind == "byte"
    tokenizer.decode(range(tokenizer.vocab_size))


@fixed
@given(text=st.text(alphabet=st.characters(codec=None), max_size=40))
@example(text="a\ud800b")
@example(text="\ud83d\ude00")
def test_lone_surrogates_are_read_as_replacement_characters(text: str) -> None:
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    for tokenizer in (BPE, BYTES):
        assert joined == tokenizer.decode(tokenizer.encode(text, add_special=False))
