"""Numbers and text as people read them."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallmind._cli import formatting
from smallmind._cli.formatting import (
    bytes_text,
    count_text,
    harmless,
    one_line,
    seconds_text,
    shortened,
)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(formatting).failed == 0


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (1_048_000, "1.0 MiB"),  # not "1023.4 KiB"
        (5 << 40, "5.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes_take_the_largest_unit_that_fits(size, text):
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 µs"),
        (0.0005, "500 µs"),
        (0.0009999, "1.00 ms"),
        (0.0999, "99.9 ms"),
        (0.4, "400 ms"),
        (0.99999, "1.00 s"),
        (12.34, "12.3 s"),
        (123.4, "123 s"),
        (54321.0, "54,321 s"),
    ],
)
def test_durations_keep_three_digits(seconds, text):
    assert seconds_text(seconds) == text


def test_counts_are_shortened_from_a_million_on():
    assert [count_text(n) for n in (999_999, 1_000_000, 7_240_000_000)] == [
        "999,999",
        "1.0 M",
        "7.2 B",
    ]


@given(st.text())
def test_harmless_text_has_no_control_characters_but_tab_and_line_feed(text):
    left = {char for char in harmless(text) if ord(char) < 32 or 127 <= ord(char) < 160}
    assert left <= {"\t", "\n"}


@given(st.text(st.characters(exclude_categories=["C"])))
def test_ordinary_text_stays_as_it_is(text):
    assert harmless(text) == text


@given(st.text())
def test_one_line_is_one_line(text):
    assert len(one_line(text).splitlines()) <= 1


@given(st.text(), st.integers(1, 20))
def test_shortened_text_is_never_longer_than_the_limit(text, limit):
    assert len(shortened(text, limit)) <= limit
