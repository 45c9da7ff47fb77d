"""What is built from which metadata, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest

from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry.errors import OperationCancelledError, TokenizerError
from smallmind_engine.telemetry.reasons import DegradeReason, ReasonCode
from smallmind_engine.tokenizers import (
    BpeTokenizer,
    ByteTokenizer,
    TokenizerFactory,
    TokenizerMode,
    TokenTableTokenizer,
    UnigramTokenizer,
)
from tokenizer_models import (
    CONTROL,
    NORMAL,
    TINY_MERGES,
    bpe_metadata,
    spm_metadata,
    unigram_metadata,
)

MISSING = DegradeReason.TOKENIZER_GGUF_METADATA_MISSING
PARTIAL = DegradeReason.TOKENIZER_VOCAB_PARTIAL
NO_MERGES = DegradeReason.TOKENIZER_MERGES_MISSING
BYTES = DegradeReason.TOKENIZER_FALLBACK_BYTEBPE
TABLE = DegradeReason.TOKENIZER_FALLBACK_TOKENTABLE_ONLY
PRE = DegradeReason.TOKENIZER_PRETOKENIZER_UNKNOWN


def reasons(metadata: dict[str, object], **options: object) -> list[DegradeReason]:
    found = TokenizerFactory.create(metadata, **options).diagnostics
    return [issue.reason for issue in found.issues]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (bpe_metadata(), BpeTokenizer),
        (spm_metadata(), TokenTableTokenizer),
        (unigram_metadata(), UnigramTokenizer),
    ],
)
def test_a_whole_file_gives_its_tokenizer_without_issues(metadata, expected) -> None:
    tokenizer = TokenizerFactory.create(metadata, strict=True)

    assert isinstance(tokenizer, expected)
    assert expected.kind == tokenizer.kind == tokenizer.diagnostics.kind
    assert not tokenizer.diagnostics.has_issues


@pytest.mark.parametrize(
    ("metadata", "expected", "kind"),
    [
        ({}, [MISSING, PARTIAL, BYTES], "byte"),
        ({"general.name": "x"}, [MISSING, PARTIAL, BYTES], "byte"),
        (bpe_metadata(model=None), [MISSING], "bpe"),
        (spm_metadata(model=None), [MISSING], "token_table"),
        (bpe_metadata(tokens=None), [PARTIAL, BYTES], "byte"),
        (bpe_metadata(tokens=[]), [PARTIAL, BYTES], "byte"),
        (bpe_metadata(tokens=[1, None, 2.5]), [PARTIAL, BYTES], "byte"),
        (bpe_metadata(merges=None), [NO_MERGES, TABLE], "token_table"),
        (bpe_metadata(merges=[]), [NO_MERGES, TABLE], "token_table"),
        (bpe_metadata(merges=None, scores=[0.0] * 269), [NO_MERGES, TABLE], "token_table"),
        (spm_metadata(scores=None), [TABLE], "token_table"),
        (spm_metadata(scores="none"), [TABLE], "token_table"),
        (unigram_metadata(scores=None), [TABLE], "token_table"),
        (spm_metadata(model="plamo2"), [TABLE], "token_table"),
        (bpe_metadata(model="rwkv"), [TABLE], "token_table"),
        (bpe_metadata(pre=None), [PRE], "bpe"),
        (bpe_metadata(pre="of tomorrow"), [PRE], "bpe"),
        (bpe_metadata(token_type=[NORMAL] * 5), [PARTIAL], "bpe"),
        (spm_metadata(scores=[1.0]), [PARTIAL], "token_table"),
        (bpe_metadata(eos_token_id=9_999), [PARTIAL], "bpe"),
        (bpe_metadata(bos_token_id=-1, add_bos_token=True), [PARTIAL], "bpe"),
    ],
)
def test_what_is_missing_is_said_with_its_reason(metadata, expected, kind) -> None:
    tokenizer = TokenizerFactory.create(metadata)

    assert expected == [issue.reason for issue in tokenizer.diagnostics.issues]
    assert kind == tokenizer.kind
    assert all(issue.message for issue in tokenizer.diagnostics.issues)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, ReasonCode.TOKENIZER_GGUF_METADATA_MISSING),
        (bpe_metadata(tokens=None), ReasonCode.TOKENIZER_VOCAB_PARTIAL),
        (bpe_metadata(merges=None), ReasonCode.TOKENIZER_MERGES_MISSING),
        (spm_metadata(scores=None), ReasonCode.TOKENIZER_FALLBACK_TOKENTABLE_ONLY),
        (bpe_metadata(pre="new"), ReasonCode.TOKENIZER_PRETOKENIZER_UNKNOWN),
        (spm_metadata(model="plamo2"), ReasonCode.TOKENIZER_UNSUPPORTED),
    ],
)
def test_strict_mode_raises_instead_of_falling_back(metadata, expected) -> None:
    with pytest.raises(TokenizerError) as raised:
        TokenizerFactory.create(metadata, strict=True)

    assert expected == raised.value.reason


@pytest.mark.parametrize(
    ("metadata", "mode", "expected"),
    [
        (bpe_metadata(), TokenizerMode.BPE, BpeTokenizer),
        (bpe_metadata(), TokenizerMode.TOKEN_TABLE, TokenTableTokenizer),
        (bpe_metadata(), TokenizerMode.BYTE, ByteTokenizer),
        (spm_metadata(), TokenizerMode.TOKEN_TABLE, TokenTableTokenizer),
        (spm_metadata(), TokenizerMode.BYTE, ByteTokenizer),
        (unigram_metadata(), TokenizerMode.TOKEN_TABLE, TokenTableTokenizer),
        (spm_metadata(merges=["l l"]), TokenizerMode.BPE, BpeTokenizer),
        (bpe_metadata(model="rwkv"), TokenizerMode.BPE, BpeTokenizer),
        ({}, TokenizerMode.BYTE, ByteTokenizer),
    ],
)
def test_every_mode_can_be_chosen(metadata, mode, expected) -> None:
    tokenizer = TokenizerFactory.create(metadata, mode=mode)

    assert expected is type(tokenizer)
    assert mode is tokenizer.diagnostics.mode


def test_a_mode_that_was_asked_for_is_no_fallback() -> None:
    assert reasons(bpe_metadata(), mode=TokenizerMode.TOKEN_TABLE) == []
    assert reasons(bpe_metadata(), mode=TokenizerMode.BYTE) == []


def test_bpe_mode_without_merges_falls_back_and_strict_refuses() -> None:
    assert reasons(spm_metadata(), mode=TokenizerMode.BPE) == [NO_MERGES, TABLE]
    with pytest.raises(TokenizerError):
        TokenizerFactory.create(spm_metadata(), mode=TokenizerMode.BPE, strict=True)


def test_an_entry_that_is_no_string_keeps_its_place() -> None:
    """One entry that is no text must not shift the ids after it."""
    metadata = bpe_metadata()
    tokens = list(metadata["tokenizer.ggml.tokens"])
    tokens[3] = 12
    tokenizer = TokenizerFactory.create({**metadata, "tokenizer.ggml.tokens": tokens})

    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"
    assert tokenizer.token_text(tokens.index("hello")) == "hello"
    assert (tokenizer.token_bytes(3), tokenizer.token_text(3)) == (b"", "")
    assert len(tokens) == tokenizer.vocab_size
    assert [issue.reason for issue in tokenizer.diagnostics.issues] == [PARTIAL]


def test_of_equal_entries_the_first_is_encoded_and_all_are_decoded() -> None:
    metadata = bpe_metadata()
    tokens = [*metadata["tokenizer.ggml.tokens"], "hello"]
    metadata |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": None}
    tokenizer = TokenizerFactory.create(metadata)

    assert [tokens.index("hello")] == tokenizer.encode("hello")
    assert tokenizer.decode([len(tokens) - 1]) == "hello"
    assert len(tokens) == tokenizer.vocab_size
    assert PARTIAL in [issue.reason for issue in tokenizer.diagnostics.issues]


def test_a_model_with_more_rows_than_tokens_has_ids_that_stand_for_nothing() -> None:
    tokenizer = TokenizerFactory.create(bpe_metadata(), expected_vocab_size=300)

    assert tokenizer.vocab_size == 300
    assert tokenizer.decode([299]) == ""
    assert [issue.reason for issue in tokenizer.diagnostics.issues] == [PARTIAL]


def test_tokens_beyond_the_rows_of_the_model_are_never_encoded() -> None:
    tokenizer = TokenizerFactory.create(bpe_metadata(), expected_vocab_size=258)

    assert max(tokenizer.encode("hello world", add_special=False)) < 258
    assert (tokenizer.bos_id, tokenizer.eos_id) == (None, None)


def test_diagnostics_tell_what_the_file_holds() -> None:
    found = TokenizerFactory.create(bpe_metadata(padding_token_id=267)).diagnostics

    assert (found.tokenizer_type, found.pre, found.vocab_size) == ("gpt2", "gpt-2", 269)
    assert (True, len(TINY_MERGES)) == (found.has_merges, found.merge_count)
    assert (found.bos_id, found.eos_id, found.unk_id, found.pad_id) == (266, 267, None, 267)
    assert (found.has_scores, found.add_bos, found.missing_bytes) == (False, False, 0)


def test_bytes_that_no_token_stands_for_are_counted() -> None:
    tokens = list(bpe_metadata()["tokenizer.ggml.tokens"])
    tokens[0] = "other"

    assert TokenizerFactory.create(bpe_metadata(tokens=tokens)).diagnostics.missing_bytes == 1


def test_building_stops_when_it_is_cancelled() -> None:
    token = CancellationToken()
    token.cancel()

    with pytest.raises(OperationCancelledError):
        TokenizerFactory.create(bpe_metadata(), limit=WorkLimit(token))


def test_arrays_of_numpy_are_lists() -> None:
    metadata = bpe_metadata()
    for key in ("tokens", "merges"):
        metadata[f"tokenizer.ggml.{key}"] = np.array(metadata[f"tokenizer.ggml.{key}"])

    tokenizer = TokenizerFactory.create(metadata, strict=True)

    assert TokenizerFactory.create(bpe_metadata()).encode("hello") == tokenizer.encode("hello")


def test_gemma4_merges_characters_and_marks_spaces() -> None:
    tokens = ["<pad>", "<eos>", "<bos>", "▁", "a", "▁a", "\n\n", "b", "<0x0A>", "<0xC3>", "<0xA9>"]
    metadata = {
        "tokenizer.ggml.model": "gemma4",
        "tokenizer.ggml.pre": "gemma4",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * 3 + [NORMAL] * 5 + [6] * 3,
        "tokenizer.ggml.merges": ["▁ a"],
    }
    tokenizer = TokenizerFactory.create(metadata, strict=True)

    ids = tokenizer.encode(" ab\n\nb\né", add_special=False)

    assert ids == [5, 7, 6, 7, 8, 9, 10]
    assert tokenizer.decode(ids) == " ab\n\nb\né"


def test_without_scores_text_spells_neither_bytes_nor_control_tokens() -> None:
    """The longest entry that fits is taken, but not one whose text is only its name."""
    tokenizer = TokenizerFactory.create(spm_metadata(scores=None))
    text = "<0x41></s><unk>"
    ids = tokenizer.encode(text, add_special=False)
    assert text == tokenizer.decode(ids)
    assert not {0, 1, 2} & set(ids)


def test_a_lost_vocabulary_spells_every_byte_whatever_ids_are_special() -> None:
    metadata = bpe_metadata(tokens=None, token_type=None, bos_token_id=0, eos_token_id=10)
    tokenizer = TokenizerFactory.create(metadata)
    text = "a\x00b\nc"
    assert text == tokenizer.decode(tokenizer.encode(text, add_special=False))
    assert tokenizer.eos_id == 10
