"""Strings that are read many at once are those that are read one by one."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smallmind_engine.gguf.cursor import Cursor
from smallmind_engine.gguf.short_strings import short_strings
from smallmind_engine.telemetry.errors import GgufFormatError

words = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=12).map(str.encode),
    st.sampled_from(
        [b"", b"\0", b"\0" * 9, b"a\0b", b"x" * 255, b"y" * 256, b"z" * 700, b"\xe2\x82"]
    ),
    st.integers(1, 9).map(lambda n: bytes([n]) + bytes(8)),  # looks like a length
)


def laid_out(items: list[bytes], order: str = "<") -> bytes:
    return b"".join(struct.pack(order + "Q", len(item)) + item for item in items)


@given(
    items=st.lists(words, max_size=40), before=st.binary(max_size=9), behind=st.binary(max_size=40)
)
@example(items=[b"\x01"] * 30, before=b"", behind=b"")
def test_they_are_the_same_one_by_one(items: list[bytes], before: bytes, behind: bytes) -> None:
    for order in "<>":
        cursor = Cursor(before + laid_out(items, order) + behind, Path("made-up"), order)
        cursor.offset = len(before)
        found = cursor.strings(len(items), "words")
        assert found == [item.decode("utf-8", "surrogateescape") for item in items]
        assert cursor.offset == len(before) + len(laid_out(items))


@given(items=st.lists(words, min_size=1, max_size=20), cut=st.integers(1, 40))
def test_what_is_cut_short_is_told_by_its_place(items: list[bytes], cut: int) -> None:
    content = laid_out(items)
    cursor = Cursor(content[: max(0, len(content) - cut)], Path("made-up"))
    with pytest.raises(GgufFormatError, match="of words"):
        cursor.strings(len(items), "words")


def test_a_usual_vocabulary_is_read_many_at_once() -> None:
    items = [f"word{number}" for number in range(6000)]
    content = laid_out([item.encode() for item in items]) + b"rest"
    found: list[str] = []
    end = calls = 0
    while len(found) < len(items):
        some, end = short_strings(content, end, len(items) - len(found))
        assert some
        found += some
        calls += 1
    assert found == items
    assert content[end:] == b"rest"
    assert calls < 6
