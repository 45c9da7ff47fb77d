"""Streamed text in lines that break between words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smallmind._cli.wrapping import WordWrap

PIECES = st.lists(st.text("ab \n", max_size=12), max_size=12)


def wrapped(pieces, width, indent=""):
    wrap = WordWrap(width, indent)
    return "".join(map(wrap.feed, pieces)) + wrap.end()


def test_a_word_that_does_not_fit_begins_the_next_line():
    assert wrapped(["one two ", "thr", "ee"], 9, "  ") == "  one two\n  three"


def test_a_word_appears_when_it_is_whole():
    wrap = WordWrap(20)
    assert [wrap.feed("al"), wrap.feed("pha"), wrap.feed(" beta"), wrap.end()] == [
        "",
        "",
        "alpha",
        " beta",
    ]


def test_line_breaks_of_the_text_stay():
    assert wrapped(["a\n\nb"], 10, "  ") == "  a\n\n  b"


@given(PIECES, st.integers(1, 30))
def test_no_word_is_lost_or_changed(pieces, width):
    assert wrapped(pieces, width).split() == "".join(pieces).split()


@given(PIECES, st.integers(1, 30))
def test_lines_fit_unless_they_are_a_single_word(pieces, width):
    for line in wrapped(pieces, width).split("\n"):
        assert len(line.rstrip()) <= width or len(line.split()) == 1


@given(st.text("ab \n", max_size=60), PIECES)
def test_how_the_text_is_cut_makes_no_difference(text, pieces):
    whole = "".join(pieces) + text
    assert wrapped([*pieces, text], 12) == wrapped([whole], 12)
