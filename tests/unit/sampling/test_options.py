"""Sampling options are checked when they are made, and never change afterwards."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest

from smallmind_engine.sampling import SamplingOptions
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_engine.telemetry.reasons import ReasonCode

NAN, INF = math.nan, math.inf

REFUSED = [
    ("temperature", [-0.1, NAN, INF, -INF, True, "0.8", None, 1j, 10**400]),
    ("top_k", [-1, 1.0, NAN, True, "40", None, 2**31, 10**400]),
    ("top_p", [-0.1, 1.1, NAN, INF, False, "1"]),
    ("min_p", [-0.1, 1.1, NAN, INF, False, "0"]),
    ("typical_p", [-0.1, 1.1, NAN, INF, True, "1"]),
    ("repetition_penalty", [0.0, -1.0, NAN, INF, True, "1"]),
    ("frequency_penalty", [NAN, INF, -INF, True, "0"]),
    ("presence_penalty", [NAN, INF, -INF, True, "0"]),
    ("penalty_window", [-2, 64.0, NAN, True, "64"]),
    ("seed", [-1, 1.0, True, "7", 2**63, NAN]),
    ("logit_bias", [[(1, 2.0)], "1", {-1: 1.0}, {"1": 1.0}, {1.0: 1.0}, {True: 1.0}]),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED for value in values]
)
def test_a_value_outside_its_range_is_refused_with_option_value_and_range(name, value):
    with pytest.raises(ConfigError) as caught:
        SamplingOptions(**{name: value})
    assert caught.value.reason is ReasonCode.OPTION_INVALID
    assert caught.value.details["option"] == name
    assert f"option {name} is " in str(caught.value)
    assert f"allowed: {caught.value.details['allowed']}" in str(caught.value)


@pytest.mark.parametrize("bias", [NAN, INF, True, "1", None])
def test_an_impossible_bias_is_refused_by_the_token_it_belongs_to(bias):
    with pytest.raises(ConfigError, match=r"option logit_bias\[17\] is "):
        SamplingOptions(logit_bias={3: 1.0, 17: bias})


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"temperature": 1e9},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1},
        {"min_p": 1.0},
        {"typical_p": 0.0},
        {"repetition_penalty": 0.5},
        {"frequency_penalty": -2.0, "presence_penalty": -2.0},
        {"penalty_window": -1},
        {"penalty_window": 0},
        {"seed": 0},
        {"seed": 2**63 - 1},
        {"logit_bias": {}},
        {"logit_bias": {0: -INF, 5: -100}},
    ],
)
def test_the_ends_of_each_range_are_allowed(options):
    made = SamplingOptions(**options)
    assert {name: getattr(made, name) for name in options} == options


def test_numbers_of_numpy_become_plain_ones():
    options = SamplingOptions(
        temperature=np.float32(0.5),
        top_k=np.int32(3),
        seed=np.uint64(9),
        logit_bias={np.int64(4): np.float32(-INF)},
    )
    assert [type(v) for v in (options.temperature, options.top_k, options.seed)] == [
        float,
        int,
        int,
    ]
    assert [(type(k), type(v)) for k, v in options.logit_bias.items()] == [(int, float)]


def test_options_cannot_be_changed():
    options = SamplingOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.temperature = 1.0


def test_a_later_change_of_the_callers_bias_does_nothing():
    bias = {1: 2.0}
    options = SamplingOptions(logit_bias=bias)
    bias[1] = 99.0
    assert options.logit_bias == {1: 2.0}


def test_options_can_be_compared_hashed_copied_and_pickled():
    options = SamplingOptions(seed=3, logit_bias={1: -INF})
    twins = [copy.deepcopy(options), pickle.loads(pickle.dumps(options))]  # noqa: S301 - our own
    assert all(twin == options and hash(twin) == hash(options) for twin in twins)
    assert dataclasses.replace(options, seed=4) != options


@pytest.mark.parametrize(
    ("options", "penalizes"),
    [
        ({}, False),
        ({"repetition_penalty": 1.1}, True),
        ({"frequency_penalty": 0.1}, True),
        ({"presence_penalty": -0.1}, True),
        ({"repetition_penalty": 1.1, "penalty_window": 0}, False),
        ({"repetition_penalty": 1.1, "penalty_window": -1}, True),
    ],
)
def test_options_know_whether_what_was_seen_matters(options, penalizes):
    assert SamplingOptions(**options).penalizes is penalizes
