"""Laws of cutting: nothing is lost, nothing is too long, every range is exact."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallmind.rag import ChunkingOptions, ExtractedText
from smallmind.rag._chunking import chunks_of
from smallmind.rag._extraction import extract
from smallmind.rag._extraction.sections import sections_at
from smallmind.rag._sentences import sentences
from smallmind.rag._tokens import approximate_tokens
from smallmind_engine.control import NO_LIMIT

TEXTS = st.text(
    st.sampled_from('ab. !?\n\n-#1Ä漢。\t")') | st.characters(exclude_categories=["Cs"]),
    max_size=400,
)
WORDY = st.lists(st.sampled_from(["Ab", "cd.", "Dr.", "e!", "\n\n", "\n- ", "12", "x" * 60])).map(
    " ".join
)


def utf8_bytes(text: str) -> int:
    return len(text.encode())


COUNTERS = st.sampled_from([approximate_tokens, utf8_bytes])


@st.composite
def documents(draw: st.DrawFn) -> ExtractedText:
    text = draw(TEXTS | WORDY)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=4)))
    headings = [(at, draw(st.integers(1, 3)), f"h{at}") for at in cuts if at < len(text)]
    return ExtractedText(text, "", sections_at(text, headings))


@st.composite
def options(draw: st.DrawFn) -> ChunkingOptions:
    most = draw(st.integers(16, 60))
    return ChunkingOptions(
        max_tokens=most,
        overlap_tokens=draw(st.integers(0, most // 2)),
        min_tokens=draw(st.integers(0, most)),
    )


@given(TEXTS | WORDY)
def test_sentences_leave_out_white_space_only(text):
    spans = list(sentences(text, 0, len(text)))
    assert all(start < end for start, end in spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    covered = "".join(text[start:end] for start, end in spans)
    assert "".join(covered.split()) == "".join(text.split())


@given(documents())
def test_sections_are_the_whole_text(document):
    assert "".join(document.text[s.start : s.end] for s in document.sections) == document.text


@given(documents(), options(), COUNTERS)
def test_chunks_are_exact_short_enough_and_complete(document, chosen, count):
    chunks = list(chunks_of(document, chosen, count, NO_LIMIT))
    seen = set()
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text == chunk.text.strip()
        assert 0 < chunk.tokens == count(chunk.text) <= chosen.max_tokens or not chunk.tokens
        seen.update(range(chunk.start, chunk.end))
    missing = {at for at, c in enumerate(document.text) if not c.isspace()} - seen
    assert not missing


@given(documents(), options(), COUNTERS)
def test_each_chunk_brings_something_new_and_repeats_no_more_than_asked(document, chosen, count):
    chunks = list(chunks_of(document, chosen, count, NO_LIMIT))
    for before, after in pairwise(chunks):
        assert after.end > before.end
        assert after.start > before.start
        if after.start < before.end:
            repeated = document.text[after.start : before.end]
            # Sentence by sentence; the white space between two may count as well.
            parts = (repeated[a:b] for a, b in sentences(repeated, 0, len(repeated)))
            assert sum(map(count, parts)) <= chosen.overlap_tokens + len(repeated.split())


@pytest.mark.parametrize("name", ["a.md", "a.html", "a.txt"])
@given(data=st.binary(max_size=300) | TEXTS.map(str.encode))
def test_no_bytes_make_a_parser_fail(name, data):
    if b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.replace(b"\0", b"")
    extracted = extract(name, data, NO_LIMIT)
    assert "".join(extracted.text[s.start : s.end] for s in extracted.sections) == extracted.text
    extracted.text.encode("utf-8")
