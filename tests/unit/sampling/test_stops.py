"""Stop strings across the seams of tokens."""

from __future__ import annotations

import time

import pytest

from smallmind_engine.sampling import StopMatcher
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode


def pushed(stops, pieces):
    matcher = StopMatcher(stops)
    return [matcher.push(piece) for piece in pieces], matcher


def test_a_stop_inside_one_piece_ends_the_text_before_it():
    shown, matcher = pushed(["STOP"], ["one STOP two"])
    assert (shown, matcher.stopped, matcher.matched) == (["one "], True, "STOP")


def test_a_stop_across_many_pieces_is_found():
    shown, matcher = pushed(["<|im_end|>"], ["Hi.<", "|", "im", "_end", "|", ">more"])
    assert ("".join(shown), matcher.matched) == ("Hi.", "<|im_end|>")


def test_text_that_could_become_a_stop_is_withheld_and_shown_when_it_does_not():
    shown, matcher = pushed(["abcd"], ["xab", "c", "e"])
    assert (shown, matcher.stopped) == (["x", "", "abce"], False)


def test_only_what_could_still_become_a_stop_is_withheld():
    shown, matcher = pushed(["aab"], ["aaaa"])
    assert (shown, matcher.flush()) == (["aa"], "aa")


def test_the_longest_of_several_beginnings_is_withheld():
    shown, matcher = pushed(["bcd", "abce"], ["xabc"])
    assert (shown, matcher.flush()) == (["x"], "abc")


def test_the_stop_that_ends_first_wins():
    shown, matcher = pushed(["bcde", "cd"], ["abcdef"])
    assert (shown, matcher.matched) == (["ab"], "cd")


def test_of_stops_that_end_together_the_longest_wins():
    for stops in (["b", "ab"], ["ab", "b"]):
        shown, matcher = pushed(stops, ["xab"])
        assert (shown, matcher.matched) == (["x"], "ab")


def test_a_stop_that_begins_inside_a_failed_one_is_found():
    shown, matcher = pushed(["aab"], ["a", "a", "a", "b"])
    assert ("".join(shown), matcher.matched) == ("a", "aab")


def test_a_stop_that_repeats_its_own_beginning_is_found():
    shown, matcher = pushed(["aabaaac"], list("aabaaabaaac!"))
    assert ("".join(shown), matcher.matched) == ("aaba", "aabaaac")


def test_nothing_is_shown_after_the_stop():
    matcher = StopMatcher(["."])
    assert [matcher.push(piece) for piece in ("a.", "b", "c.")] == ["a", "", ""]
    assert matcher.flush() == ""


def test_flush_gives_the_withheld_text_once():
    matcher = StopMatcher(["\n\n"])
    assert matcher.push("end\n") == "end"
    assert (matcher.flush(), matcher.flush()) == ("\n", "")


def test_flush_forgets_the_beginning_it_gave_away():
    matcher = StopMatcher(["ab"])
    assert (matcher.push("a"), matcher.flush(), matcher.push("b")) == ("", "a", "b")
    assert not matcher.stopped


def test_without_stops_everything_passes_at_once():
    shown, matcher = pushed([], ["a", "", "b"])
    assert (shown, matcher.flush(), matcher.matched) == (["a", "", "b"], "", None)


def test_an_empty_piece_changes_nothing():
    shown, matcher = pushed(["ab"], ["a", "", "b"])
    assert ("".join(shown), matcher.stopped) == ("", True)


def test_stops_may_hold_any_character():
    shown, matcher = pushed(["👋🏽"], ["hi 👋", "🏽 there"])
    assert (shown, matcher.matched) == (["hi ", ""], "👋🏽")


@pytest.mark.parametrize("stops", [[""], ["a", ""], [b"a"], [None], [7], "stop"])
def test_impossible_stops_are_refused(stops):
    with pytest.raises(ConfigError, match="option stop holds") as caught:
        StopMatcher(stops)
    assert caught.value.reason is ReasonCode.OPTION_INVALID


def test_a_hostile_stop_takes_no_more_than_linear_time():
    matcher = StopMatcher(["a" * 20_000 + "b"])
    started = time.perf_counter()
    for _ in range(1_000):
        matcher.push("a" * 100)
    # A search that starts anew at each character would need 10**9 comparisons.
    assert time.perf_counter() - started < 10.0
    assert matcher.push("b") == ""
    assert matcher.stopped
