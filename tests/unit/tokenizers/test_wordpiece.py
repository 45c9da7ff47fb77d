"""WordPiece is that of Hugging Face's BertWordPieceTokenizer, in both forms of a vocabulary."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer
from tokenizers.normalizers import BertNormalizer as HuggingFaceNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.telemetry.errors import OperationCancelledError
from smallmind_engine.tokenizers import TokenizerFactory, WordPieceTokenizer
from smallmind_engine.tokenizers.bert_characters import FORMER_CATEGORIES, LATE_CHARACTERS
from smallmind_engine.tokenizers.bert_normalizer import BertNormalizer
from tiny_encoders import SPECIALS, bert_metadata, bert_vocabulary

CLS, SEP, UNK = 2, 3, 1
_DECOMPOSED_OTHERWISE = 0x11938  # a vowel sign of Dives Akuru
MARKED = TokenizerFactory.create(bert_metadata(), strict=True)
HASHED = TokenizerFactory.create(bert_metadata(bert_vocabulary()), strict=True)
CASED_ENTRIES = [*bert_vocabulary(), "The", "É", "A", "##B"]
CASED = TokenizerFactory.create(
    bert_metadata(CASED_ENTRIES, token_type=None, padding_token_id=None), strict=True
)


def hugging_face(entries: list[str], **options: bool) -> BertWordPieceTokenizer:
    return BertWordPieceTokenizer({entry: i for i, entry in enumerate(entries)}, **options)


REFERENCE = hugging_face(bert_vocabulary())
CASED_REFERENCE = hugging_face(CASED_ENTRIES, lowercase=False)

TEXTS = [
    "",
    "   ",
    "The cat sat on the mat.",
    "unaffable UNAFFABLE playing, players!",
    "it's un-able?",
    "tab\tnew\nline\r\x0bvertical\x00zero\x1funit\u200bwidth\u00adsoft",
    "naïve É é e\u0301 \u0130stanbul ΣΑΣ ß",
    "中文 the中cat 𠀀x\uf900",
    "\u2028line\u2029paragraph\x85next\u3000wide\xa0hard",
    "a" * 100,
    "a" * 101,
    "[CLS] [SEP] [MASK] [UNK] the[PAD]cat",
    "½ ² ① Ⅷ ﬁ \uff46\uff55\uff4c\uff4c",
    "¿the¡ “cat” — it…",
    "\ufffd\ufeffthe",
]
likely = st.text(alphabet="thecasonmunfbl ply.,'-[]CLSEPT\u0301é中\t\x00\u200b", max_size=40)
known = st.text(
    st.characters(exclude_categories=("Cs", "Cn"), exclude_characters=chr(_DECOMPOSED_OTHERWISE)),
    max_size=30,
)


@pytest.mark.parametrize("tokenizer", [MARKED, HASHED], ids=["marked", "hashed"])
@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_the_reference(tokenizer: WordPieceTokenizer, text: str) -> None:
    assert REFERENCE.encode(text).ids == tokenizer.encode(text, parse_special=True)


@given(text=likely | known)
@example(text="[CLS]the[SEP]")
def test_any_text_gives_the_ids_of_the_reference(text: str) -> None:
    expected = REFERENCE.encode(text).ids
    assert expected == MARKED.encode(text, parse_special=True)
    assert expected == HASHED.encode(text, parse_special=True)


@given(text=likely)
def test_a_vocabulary_with_capitals_keeps_case_and_accents(text: str) -> None:
    assert CASED_REFERENCE.encode(text).ids == CASED.encode(text, parse_special=True)


def test_characters_are_normalised_as_the_reference_does() -> None:
    """All of the first planes' scripts, all that is listed, and a sample of the rest."""
    normalizer, cutter = HuggingFaceNormalizer(), BertPreTokenizer()
    own = BertNormalizer(lowercase=True, strip_accents=True)
    former = {ord(char) for char in FORMER_CATEGORIES}
    codes = {*range(0x3400), *LATE_CHARACTERS, *former, *range(0x3400, 0x110000, 41), 0x2B81F}
    differ = [
        hex(code)
        for code in codes - {_DECOMPOSED_OTHERWISE}
        if unicodedata.category(chr(code)) not in {"Cn", "Cs"}
        for text in (f"a{chr(code)}b",)
        if [word for word, _ in cutter.pre_tokenize_str(normalizer.normalize_str(text))]
        != list(own.words(text, NO_LIMIT))
    ]
    assert differ == []


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("strip_accents", [False, True])
def test_the_file_says_whether_case_and_accents_matter(
    lowercase: bool,  # noqa: FBT001
    strip_accents: bool,  # noqa: FBT001
) -> None:
    changes = {"normalizer.lowercase": lowercase, "normalizer.strip_accents": strip_accents}
    tokenizer = TokenizerFactory.create(bert_metadata(CASED_ENTRIES, token_type=None, **changes))
    reference = hugging_face(CASED_ENTRIES, lowercase=lowercase, strip_accents=strip_accents)
    for text in TEXTS:
        assert reference.encode(text).ids == tokenizer.encode(text, parse_special=True)


def test_special_tokens_written_by_strangers_are_text() -> None:
    ids = MARKED.encode("[SEP]", add_special=False)
    assert SEP not in ids
    assert len(ids) > 1


def test_special_tokens_are_added_only_where_they_are_wanted() -> None:
    bare = MARKED.encode("the", add_special=False)
    assert [CLS, *bare, SEP] == MARKED.encode("the")
    plain = TokenizerFactory.create(bert_metadata(add_bos_token=False, add_sep_token=False))
    assert bare == plain.encode("the")


def test_special_ids_are_found_by_their_names_where_the_file_tells_none() -> None:
    bare = TokenizerFactory.create(
        bert_metadata(
            padding_token_id=None,
            unknown_token_id=None,
            cls_token_id=None,
            seperator_token_id=None,
        )
    )
    assert (bare.bos_id, bare.eos_id, bare.unk_id, bare.pad_id) == (CLS, SEP, UNK, 0)


def test_todays_converters_name_the_first_token_otherwise() -> None:
    renamed = TokenizerFactory.create(bert_metadata(cls_token_id=None, bos_token_id=CLS))
    assert renamed.encode("the")[0] == CLS


@pytest.mark.parametrize("tokenizer", [MARKED, HASHED], ids=["marked", "hashed"])
def test_decoding_joins_pieces_and_parts_words(tokenizer: WordPieceTokenizer) -> None:
    ids = tokenizer.encode("Unaffable cat sat, playing!")
    assert tokenizer.decode(ids, skip_special=True) == "unaffable cat sat , playing !"


def test_a_word_without_pieces_is_one_unknown_token() -> None:
    assert MARKED.encode("the\u03bb") == [CLS, UNK, SEP]


def test_long_texts_are_cut_in_blocks_without_changing_their_words() -> None:
    rng = np.random.default_rng(3)
    words = rng.choice(["the", "unaffable", "中中", "e\u0301", ",", "x" * 120], 9000).tolist()
    text = "".join(f"{word}{rng.choice([' ', chr(10)])}" for word in words)
    assert len(text) > 3 * 32_768
    assert REFERENCE.encode(text).ids == MARKED.encode(text)


def test_tokenising_a_long_text_can_be_stopped() -> None:
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        MARKED.encode("the " * 50_000, limit=WorkLimit(token))


def test_the_diagnostics_name_the_kind() -> None:
    assert (MARKED.kind, MARKED.diagnostics.kind) == ("wordpiece", "wordpiece")
    assert not MARKED.diagnostics.has_issues
    assert all(MARKED.token_text(i) == name for i, name in enumerate(SPECIALS))
