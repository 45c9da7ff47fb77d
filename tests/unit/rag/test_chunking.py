"""Texts are cut between sentences, by tokens."""

from __future__ import annotations

import pytest

from engines import tiny_engine
from smallmind.rag import ChunkingOptions, ExtractedText, Section, tokens_of
from smallmind.rag._chunking import chunks_of
from smallmind.rag._extraction import extract
from smallmind.rag._sentences import sentences
from smallmind.rag._tokens import approximate_tokens
from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.telemetry import OperationCancelledError
from smallmind_engine.telemetry.errors import ConfigError


def words(text):
    return len(text.split())


def plain(text):
    return ExtractedText(text, "", (Section(0, len(text), ""),))


def cut(text, count=words, **options):
    return list(chunks_of(plain(text), ChunkingOptions(**options), count, NO_LIMIT))


def split(text):
    return [text[start:end] for start, end in sentences(text, 0, len(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("He met Dr. Smith. Then he left.", ["He met Dr. Smith.", "Then he left."]),
        ("See e.g. Chapter 2. Or not.", ["See e.g. Chapter 2.", "Or not."]),
        ("By J. R. Tolkien. A book.", ["By J. R. Tolkien.", "A book."]),
        ("Pi is 3.14. Yes.", ["Pi is 3.14.", "Yes."]),
        ('"Stop." He ran. (Fast.) Away.', ['"Stop."', "He ran.", "(Fast.)", "Away."]),
        ("no stop here\n\nnext paragraph", ["no stop here", "next paragraph"]),
        ("- one\n- two\n1. three", ["- one", "- two", "1. three"]),
        ("これは文です。次の文です。", ["これは文です。", "次の文です。"]),
        ("version 2. of it goes on", ["version 2. of it goes on"]),
        ("  \n ", []),
    ],
)
def test_sentences_end_where_a_reader_says(text, expected):
    assert split(text) == expected


def test_whole_sentences_are_packed_and_the_last_one_is_repeated():
    text = " ".join(f"Sentence number {n} has exactly seven words." for n in range(10))
    chunks = cut(text, max_tokens=28, overlap_tokens=7, min_tokens=0)
    assert [chunk.tokens for chunk in chunks] == [28, 28, 28]
    assert all(chunk.text == text[chunk.start : chunk.end] for chunk in chunks)
    assert chunks[1].text.startswith("Sentence number 3 has")
    assert chunks[0].text.endswith("number 3 has exactly seven words.")


def test_without_overlap_nothing_is_repeated():
    text = " ".join(f"Sentence number {n} has exactly seven words." for n in range(9))
    chunks = cut(text, max_tokens=21, overlap_tokens=0, min_tokens=0)
    assert " ".join(chunk.text for chunk in chunks) == text


def test_a_sentence_longer_than_a_chunk_is_cut_between_words():
    text = " ".join(f"word{n}" for n in range(100))
    chunks = cut(text, max_tokens=16, overlap_tokens=0, min_tokens=0)
    assert " ".join(chunk.text for chunk in chunks) == text
    assert max(chunk.tokens for chunk in chunks) <= 16


def test_a_word_longer_than_a_chunk_is_cut_anywhere():
    text = "x" * 1000
    chunks = cut(text, count=len, max_tokens=100, overlap_tokens=0, min_tokens=0)
    assert [len(chunk.text) for chunk in chunks] == [100] * 10


def test_chunks_stay_within_their_section_and_carry_its_heading():
    source = "# A\n\n" + "One sentence is here. " * 5 + "\n\n# B\n\n" + "Another one. " * 5
    extracted = extract("a.md", source.encode(), NO_LIMIT)
    chunks = list(chunks_of(extracted, ChunkingOptions(min_tokens=0), words, NO_LIMIT))
    assert [(chunk.heading, chunk.text[:3]) for chunk in chunks] == [("A", "# A"), ("B", "# B")]


def test_a_very_short_section_joins_the_next_one():
    extracted = extract("a.md", b"# A\n\n## B\n\nText of B that is long enough.", NO_LIMIT)
    (chunk,) = chunks_of(extracted, ChunkingOptions(min_tokens=8), words, NO_LIMIT)
    assert chunk.text == extracted.text


def test_chunks_know_their_page():
    text = "One is here. Two is here. Three is here."
    extracted = ExtractedText(text, "", (Section(0, len(text), ""),), (0, 13, 26))
    options = ChunkingOptions(max_tokens=16, overlap_tokens=0, min_tokens=0)
    chunks = chunks_of(extracted, options, len, NO_LIMIT)
    assert [(chunk.page, chunk.text) for chunk in chunks] == [
        (1, "One is here."),
        (2, "Two is here."),
        (3, "Three is here."),
    ]


def test_tokens_are_those_of_the_models_tokenizer(tmp_path):
    with tiny_engine(tmp_path) as engine:
        count = tokens_of(engine)
        chunks = cut("The end and the beginning. " * 20, count, max_tokens=64, overlap_tokens=16)
        assert len(chunks) > 3
        for chunk in chunks:
            assert chunk.tokens == len(engine.tokenize(chunk.text)) <= 64


def test_the_approximate_count_needs_no_model():
    assert approximate_tokens("Hello, internationalization 12345 times!") == 2 + 4 + 2 + 1 + 1


def test_cutting_can_be_cancelled():
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        list(chunks_of(plain("a b"), ChunkingOptions(), words, WorkLimit(token)))


@pytest.mark.parametrize(
    "options",
    [{"max_tokens": 15}, {"overlap_tokens": 129}, {"overlap_tokens": -1}, {"min_tokens": 257}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match="it must be"):
        ChunkingOptions(**options)
