"""Bias and penalties, on paper. Greedy sampling or the array itself shows what they did."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smallmind_engine.sampling import Sampler, SamplingOptions
from smallmind_engine.sampling.penalties import SeenTokens, add_bias, penalize

LARGEST = float(np.finfo(np.float32).max)


def penalized(logits, seen, **options):
    scores = np.array(logits, np.float32)
    ids = np.array(list(seen), np.intp)
    penalize(scores, ids, np.array(list(seen.values()), np.float64), SamplingOptions(**options))
    return scores.tolist()


def biased(logits, bias):
    scores = np.array(logits, np.float32)
    add_bias(scores, np.array(list(bias), np.intp), np.array(list(bias.values()), np.float64))
    return scores.tolist()


def counted(window, tokens):
    seen = SeenTokens(window)
    for token in tokens:
        seen.add(token)
    ids, counts = seen.counts()
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def test_repetition_divides_positive_logits_and_multiplies_the_others():
    assert penalized([4.0, -4.0, 0.0, 4.0], {0: 1, 1: 1, 2: 1}, repetition_penalty=2.0) == [
        2.0,
        -8.0,
        0.0,
        4.0,
    ]


def test_repetition_does_not_grow_with_the_count():
    assert penalized([4.0], {0: 5}, repetition_penalty=2.0) == [2.0]


def test_a_repetition_penalty_below_one_favours_what_was_seen():
    assert penalized([4.0, -4.0], {0: 1, 1: 1}, repetition_penalty=0.5) == [8.0, -2.0]


def test_frequency_is_taken_off_once_for_each_time():
    assert penalized([1.0, 1.0, 1.0], {0: 3, 1: 1}, frequency_penalty=0.5) == [-0.5, 0.5, 1.0]


def test_presence_is_taken_off_once():
    assert penalized([1.0, 1.0, 1.0], {0: 3, 1: 1}, presence_penalty=0.5) == [0.5, 0.5, 1.0]


def test_repetition_comes_before_frequency_and_presence():
    together = {"repetition_penalty": 2.0, "frequency_penalty": 0.25, "presence_penalty": 1.0}
    assert penalized([4.0], {0: 2}, **together) == [4.0 / 2.0 - 2 * 0.25 - 1.0]


def test_a_masked_token_stays_masked():
    together = {"repetition_penalty": 0.5, "frequency_penalty": -2.0, "presence_penalty": -2.0}
    assert penalized([-math.inf, 0.0], {0: 1}, **together)[0] == -math.inf


def test_a_score_never_grows_into_infinity():
    assert penalized([LARGEST], {0: 1}, repetition_penalty=1e-300) == [LARGEST]
    assert biased([LARGEST], {0: 1e308}) == [LARGEST]


def test_bias_is_added_to_the_tokens_it_names():
    assert biased([1.0, 2.0, 3.0], {2: -5.0, 0: 0.5}) == [1.5, 2.0, -2.0]


def test_a_bias_of_minus_infinity_masks():
    assert biased([1.0, 2.0], {1: -math.inf}) == [1.0, -math.inf]


def test_bias_comes_before_the_penalties():
    options = SamplingOptions(temperature=0.0, repetition_penalty=3.0, logit_bias={0: 4.0})
    # (2 + 4) / 3 = 2 is below 3; penalized first it would be 2 / 3 + 4, which is above.
    assert Sampler(options, 2, history=[0]).sample(np.array([2.0, 3.0], np.float32)) == 1


@pytest.mark.parametrize(
    ("window", "counts"),
    [
        (-1, {5: 3.0, 6: 1.0, 7: 2.0}),
        (100, {5: 3.0, 6: 1.0, 7: 2.0}),
        (4, {7: 2.0, 5: 2.0}),
        (1, {7: 1.0}),
    ],
)
def test_a_window_counts_the_last_tokens_and_minus_one_all(window, counts):
    assert counted(window, [5, 6, 5, 7, 5, 7]) == counts


def test_the_prompt_and_the_accepted_tokens_count_as_seen():
    options = SamplingOptions(temperature=0.0, presence_penalty=10.0, penalty_window=2)
    sampler = Sampler(options, 3, history=[2])
    logits = np.array([1.0, 2.0, 3.0], np.float32)
    picked = []
    for _ in range(4):
        picked.append(sampler.sample(logits))
        sampler.accept(picked[-1])
    assert picked == [1, 0, 2, 1]


def test_without_a_window_nothing_is_penalized():
    options = SamplingOptions(temperature=0.0, presence_penalty=10.0, penalty_window=0)
    assert Sampler(options, 2, history=[1, 1]).sample(np.array([0.0, 1.0], np.float32)) == 1


def test_sampling_alone_does_not_count_as_seen():
    sampler = Sampler(SamplingOptions(temperature=0.0, presence_penalty=10.0), 2)
    assert [sampler.sample(np.array([0.0, 1.0], np.float32)) for _ in range(2)] == [1, 1]
