"""Special tokens: which there are, when they are read from text, and when they are shown."""

from __future__ import annotations

import pytest

from smallmind_engine.control import NO_LIMIT
from smallmind_engine.tokenizers import Tokenizer, TokenizerFactory
from smallmind_engine.tokenizers.fragments import SpecialTokenSplitter
from tokenizer_models import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    bpe_metadata,
    spm_metadata,
)


def build(extra: dict[str, int], **changes: object) -> Tokenizer:
    """A byte-level model with the tokens of ``extra``, each of the type given."""
    metadata = bpe_metadata(**changes)
    tokens = [*metadata["tokenizer.ggml.tokens"], *extra]
    types = [*metadata["tokenizer.ggml.token_type"], *extra.values()]
    metadata |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    return TokenizerFactory.create(metadata)


def eog_texts(tokenizer: Tokenizer) -> set[str]:
    return {tokenizer.token_text(token_id) for token_id in tokenizer.eog_ids}


def test_control_tokens_are_read_only_when_asked_for() -> None:
    tokenizer = TokenizerFactory.create(bpe_metadata())

    assert tokenizer.encode("<|im_end|>", parse_special=True) == [267]
    assert 267 not in tokenizer.encode("<|im_end|>", parse_special=False)


@pytest.mark.parametrize("parse_special", [False, True])
def test_user_defined_tokens_are_always_read(parse_special: bool) -> None:  # noqa: FBT001
    tokenizer = TokenizerFactory.create(bpe_metadata())

    assert tokenizer.encode("<tool>", parse_special=parse_special) == [268]


def test_the_longer_of_two_overlapping_tokens_wins_even_when_it_begins_later() -> None:
    splitter = SpecialTokenSplitter({"abc": 1, "bcde": 2, "ab": 3})

    assert splitter.split("abcdef", NO_LIMIT) == ["a", 2, "f"]


def test_a_shorter_token_stands_where_the_longer_one_was_taken_away() -> None:
    """At 0 begins "abc", but "cdefg" takes its end, so that "ab" remains."""
    splitter = SpecialTokenSplitter({"abc": 1, "cdefg": 2, "ab": 3})

    assert splitter.split("abcdefg", NO_LIMIT) == [3, 2]


def test_without_special_tokens_a_text_is_one_fragment() -> None:
    splitter = SpecialTokenSplitter({})

    assert (splitter.split("abc", NO_LIMIT), splitter.split("", NO_LIMIT)) == (["abc"], [])


def test_special_tokens_are_shown_or_left_out() -> None:
    tokenizer = TokenizerFactory.create(bpe_metadata())
    ids = tokenizer.encode("<|im_end|>a<tool>", parse_special=True)

    assert tokenizer.decode(ids) == "<|im_end|>a<tool>"
    assert tokenizer.decode(ids, skip_special=True) == "a<tool>"
    assert tokenizer.token_bytes(267) == b"<|im_end|>"
    assert tokenizer.token_bytes(267, skip_special=True) == b""


def test_bos_and_eos_are_added_as_the_file_says() -> None:
    tokenizer = TokenizerFactory.create(bpe_metadata(add_bos_token=True, add_eos_token=True))

    ids = tokenizer.encode("hello")

    assert (ids[0], ids[-1]) == (266, 267)
    assert ids[1:-1] == tokenizer.encode("hello", add_special=False)


@pytest.mark.parametrize(
    ("pre", "expected"), [("llama-bpe", True), ("tekken", True), ("gpt-2", False)]
)
def test_some_pre_tokenizers_bring_bos(pre: str, expected: bool) -> None:  # noqa: FBT001
    assert expected is TokenizerFactory.create(bpe_metadata(pre=pre)).add_bos


def test_sentencepiece_adds_bos_unless_the_file_says_no() -> None:
    assert TokenizerFactory.create(spm_metadata()).encode("") == [1]
    assert TokenizerFactory.create(spm_metadata(add_bos_token=False)).encode("") == []


def test_llama_ids_default_to_their_well_known_places() -> None:
    tokenizer = TokenizerFactory.create(
        spm_metadata(bos_token_id=None, eos_token_id=None, unknown_token_id=None)
    )

    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (1, 2, 0)


def test_ids_are_found_by_name_when_the_file_does_not_tell() -> None:
    tokenizer = build({"<s>": CONTROL, "<pad>": CONTROL}, bos_token_id=None, eos_token_id=None)

    assert (tokenizer.bos_id, tokenizer.pad_id) == (269, 270)
    assert tokenizer.token_text(tokenizer.eos_id) == "<|endoftext|>"


def test_generation_ends_at_well_known_names_and_at_the_ids_of_the_file() -> None:
    extra = {"<|eot_id|>": CONTROL, "<end_of_turn>": NORMAL, "<stop>": CONTROL, "<go>": CONTROL}
    tokenizer = build(extra, eot_token_id=271)

    expected = {"<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<stop>"}
    assert expected == eog_texts(tokenizer)
    assert tokenizer.token_bytes(270, skip_special=True) == b""


@pytest.mark.parametrize(("kind", "expected"), [(CONTROL, True), (USER_DEFINED, False)])
def test_the_closing_s_tag_ends_a_generation_only_as_control(kind: int, expected: bool) -> None:  # noqa: FBT001
    assert expected is ("</s>" in eog_texts(build({"</s>": kind})))


def test_gemma4_does_not_end_at_the_closing_s_tag() -> None:
    assert "</s>" not in eog_texts(build({"</s>": CONTROL, "<|tool_response>": CONTROL}))


def test_harmony_messages_end_without_ending_the_generation() -> None:
    extra = {"<|return|>": CONTROL, "<|call|>": CONTROL, "<|end|>": CONTROL, "<|channel|>": CONTROL}
    tokenizer = build(extra)

    assert {"<|return|>", "<|call|>"} <= eog_texts(tokenizer)
    assert "<|end|>" not in eog_texts(tokenizer)
    assert tokenizer.token_bytes(271, skip_special=True) == b"<|end|>"
    assert tokenizer.token_bytes(272, skip_special=True) == b"<|channel|>"


def test_phi3_tokens_swallow_the_blanks_after_them() -> None:
    metadata = {**spm_metadata(add_space_prefix=False), "general.name": "Phi-3 mini"}
    tokenizer = TokenizerFactory.create(metadata)
    tool, a = tokenizer.encode("<tool>a", add_special=False)

    assert [tool, a, 1] == tokenizer.encode("<tool>  \na<s>", add_special=False, parse_special=True)
    space = tokenizer.encode(" ", add_special=False)
    assert [1, *space, tool] == tokenizer.encode(
        "<s> <tool> ", add_special=False, parse_special=True
    )


def test_types_are_inferred_when_the_file_has_none() -> None:
    tokenizer = TokenizerFactory.create(spm_metadata(token_type=None))

    assert tokenizer.token_bytes(tokenizer.encode("\n", add_special=False)[-1]) == b"\n"
    assert tokenizer.encode("<s>", add_special=False, parse_special=True) == [1]
    assert tokenizer.token_bytes(0, skip_special=True) == b""


def test_unused_and_strange_types_stand_for_nothing() -> None:
    tokenizer = build({"<u>": UNUSED, "<v>": 99, "<w>": UNKNOWN, "odd": BYTE})

    assert [tokenizer.token_bytes(i) for i in range(269, 273)] == [b"", b"", b"<w>", b"odd"]
