"""However the text is cut, the stop matcher says what a search of the whole text says."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from smallmind_engine.sampling import StopMatcher

LAW = settings(derandomize=True, deadline=None, max_examples=500)
LETTERS = st.sampled_from("ab")  # few letters: overlaps and failed beginnings everywhere
PIECES = st.lists(st.text(LETTERS, max_size=6), max_size=20)
STOPS = st.lists(st.text(LETTERS, min_size=1, max_size=9), min_size=1, max_size=4)


def offline(text: str, stops: list[str]) -> tuple[str, str | None]:
    """What is left of ``text``, and the stop: first end, then longest."""
    hits = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    if not hits:
        return text, None
    end, negative_length = min(hits)
    start = end + negative_length
    return text[:start], text[start:end]


@LAW
@given(PIECES, STOPS)
def test_every_cutting_gives_what_the_whole_text_gives(pieces, stops):
    matcher = StopMatcher(stops)
    shown = "".join(matcher.push(piece) for piece in pieces) + matcher.flush()
    assert (shown, matcher.matched) == offline("".join(pieces), stops)
    assert matcher.stopped is (matcher.matched is not None)


@LAW
@given(PIECES, STOPS)
def test_shown_and_withheld_are_the_text_so_far_until_it_stops(pieces, stops):
    matcher = StopMatcher(stops)
    shown = seen = ""
    for piece in pieces:
        shown += matcher.push(piece)
        seen += piece
        if matcher.stopped:
            break
        withheld = seen[len(shown) :]
        assert seen.startswith(shown)
        assert withheld == max(
            (stop[:n] for stop in stops for n in range(len(stop)) if seen.endswith(stop[:n])),
            key=len,
        )


@LAW
@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=3), max_size=3), st.data())
def test_any_unicode_text_comes_through_whole_or_up_to_its_stop(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    borders = [0, *cuts, len(text)]
    matcher = StopMatcher(stops)
    shown = [matcher.push(text[a:b]) for a, b in pairwise(borders)]
    assert ("".join(shown) + matcher.flush(), matcher.matched) == offline(text, stops)
