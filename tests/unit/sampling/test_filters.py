"""Each filter on a distribution that can be checked on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smallmind_engine.sampling.filters import (
    Candidates,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    peak_and_log_mass,
)
from smallmind_engine.sampling.selection import highest


def candidates(*probabilities):
    logits = np.log(np.array(probabilities, np.float64))
    return Candidates(np.arange(len(probabilities)), logits)


def kept(found):
    return found.ids.tolist()


def test_top_k_keeps_the_highest_scores_in_the_order_of_ids():
    assert kept(keep_top_k(np.array([1.0, 5.0, 2.0, 4.0], np.float32), 2)) == [1, 3]


def test_top_k_prefers_lower_ids_among_equal_scores():
    assert kept(keep_top_k(np.array([1.0, 5.0, 1.0, 1.0], np.float32), 3)) == [0, 1, 2]


def test_top_k_of_zero_keeps_all_that_are_not_masked():
    assert kept(keep_top_k(np.array([1.0, -math.inf, 1.0], np.float32), 0)) == [0, 2]


def test_top_k_never_keeps_a_masked_token():
    assert kept(keep_top_k(np.array([-math.inf, 2.0, -math.inf], np.float32), 2)) == [1]


def test_top_p_keeps_the_fewest_that_reach_the_mass():
    assert kept(keep_top_p(candidates(0.25, 0.125, 0.5, 0.125), 0.7)) == [0, 2]


def test_top_p_keeps_one_when_it_is_zero():
    assert kept(keep_top_p(candidates(0.25, 0.25, 0.5), 0.0)) == [2]
    assert kept(keep_top_p(candidates(0.25, 0.25, 0.25, 0.25), 0.0)) == [0]


def test_top_p_prefers_lower_ids_among_the_equally_likely():
    assert kept(keep_top_p(candidates(0.1, 0.4, 0.1, 0.4), 0.85)) == [0, 1, 3]


def test_top_p_of_one_keeps_even_what_rounds_to_no_mass():
    everything = Candidates(np.arange(2), np.array([0.0, -1e9]))
    assert keep_top_p(everything, 1.0) is everything


def test_min_p_measures_against_the_likeliest():
    assert kept(keep_min_p(candidates(0.1, 0.5, 0.15, 0.25), 0.25)) == [1, 2, 3]


def test_min_p_of_one_keeps_only_the_likeliest_and_its_equals():
    assert kept(keep_min_p(candidates(0.4, 0.2, 0.4), 1.0)) == [0, 2]


def test_min_p_of_zero_is_off():
    everything = candidates(0.5, 0.5)
    assert keep_min_p(everything, 0.0) is everything


def test_typical_p_leaves_out_the_likeliest_when_its_surprise_is_unusual():
    # Entropy 1.47 nats; surprises 0.69, 1.97, 1.97, 1.97, 3.22: the three are nearest to it.
    assert kept(keep_typical(candidates(0.5, 0.14, 0.14, 0.14, 0.08), 0.3)) == [1, 2, 3]


def test_typical_p_takes_the_token_with_which_the_mass_exceeds_it():
    fair = candidates(0.25, 0.25, 0.25, 0.25)
    assert kept(keep_typical(fair, 0.4)) == [0, 1]
    assert kept(keep_typical(fair, 0.0)) == [0]


def test_top_p_reaches_its_mass_and_typical_p_exceeds_it():
    coin = candidates(0.5, 0.5)
    assert (kept(keep_top_p(coin, 0.5)), kept(keep_typical(coin, 0.5))) == ([0], [0, 1])


def test_typical_p_of_one_is_off():
    everything = candidates(0.9, 0.1)
    assert keep_typical(everything, 1.0) is everything


@pytest.mark.parametrize(
    ("uniform", "token"), [(0.0, 0), (0.2499, 0), (0.2501, 1), (0.7499, 1), (0.7501, 2)]
)
def test_draw_gives_each_candidate_its_share_in_the_order_of_ids(uniform, token):
    assert draw(candidates(0.25, 0.5, 0.25), 1.0, uniform) == token


def test_draw_divides_the_logits_by_the_temperature():
    # 0.25 : 0.5 at temperature 0.5 is 1/16 : 1/4, a fifth and four fifths.
    uneven = candidates(0.25, 0.5)
    assert [draw(uneven, 0.5, uniform) for uniform in (0.199, 0.201)] == [0, 1]


@pytest.mark.parametrize("uniform", [0.0, 0.5, math.nextafter(1.0, 0.0)])
def test_draw_never_takes_a_candidate_without_a_share(uniform):
    logits = np.array([-1e9, 0.0, -1e9])
    assert draw(Candidates(np.array([3, 4, 5]), logits), 1.0, uniform) == 4


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
def test_the_largest_uniform_number_draws_the_last_share(count):
    logits = np.append(np.linspace(-1.0, 0.0, count), -1e9)
    largest = math.nextafter(1.0, 0.0)
    assert draw(Candidates(np.arange(count + 1), logits), 1.0, largest) == count - 1


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e300])
def test_draw_survives_extreme_temperatures(temperature):
    found = draw(Candidates(np.array([3, 4]), np.array([0.0, 30.0])), temperature, 0.75)
    assert found == 4


def test_the_mass_does_not_overflow_and_ignores_masked_entries():
    assert peak_and_log_mass(np.array([1e300, 1e300, -math.inf])) == (1e300, math.log(2.0))


def test_the_mass_of_many_pieces_is_that_of_one():
    assert peak_and_log_mass(np.zeros(100_001, np.float32)) == (0.0, math.log(100_001))


@pytest.mark.parametrize(("count", "found"), [(0, []), (1, [1]), (2, [0, 1]), (9, [0, 1, 2])])
def test_highest_gives_so_many_indices_or_all(count, found):
    assert highest(np.array([5.0, 7.0, 3.0]), count).tolist() == found
