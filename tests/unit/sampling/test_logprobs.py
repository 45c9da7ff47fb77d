"""Log-probabilities of the raw logits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smallmind_engine.sampling import TokenLogprob, token_logprob
from smallmind_engine.telemetry.errors import ConfigError, InferenceError, TokenizerError

LOGITS = np.log(np.array([0.125, 0.5, 0.125, 0.25])).astype(np.float32)


def test_the_token_and_the_likeliest_on_paper():
    found = token_logprob(LOGITS, 3, 2)
    assert found.token_id == 3
    assert found.logprob == pytest.approx(math.log(0.25), abs=1e-6)
    assert [token_id for token_id, _ in found.top] == [1, 3]
    assert [value for _, value in found.top] == pytest.approx(
        [math.log(0.5), math.log(0.25)], abs=1e-6
    )


def test_equal_ones_come_with_the_lower_id_first():
    assert [token_id for token_id, _ in token_logprob(LOGITS, 0, 4).top] == [1, 3, 0, 2]


def test_the_token_has_the_same_value_alone_and_among_the_likeliest():
    found = token_logprob(LOGITS, 1, 1)
    assert found == TokenLogprob(1, found.logprob, ((1, found.logprob),))


def test_none_of_the_likeliest_when_none_are_asked_for():
    assert token_logprob(LOGITS, 0, 0).top == ()


def test_more_than_there_are_gives_all():
    assert len(token_logprob(LOGITS, 0, 99).top) == 4


def test_large_logits_do_not_overflow():
    assert token_logprob(np.array([3e38, 3e38], np.float32), 0, 0).logprob == pytest.approx(
        -math.log(2.0)
    )


def test_a_masked_token_has_minus_infinity_and_is_not_among_the_likeliest():
    found = token_logprob(np.array([0.0, -math.inf], np.float32), 1, 2)
    assert found == TokenLogprob(1, -math.inf, ((0, 0.0),))


def test_plain_numbers_come_out():
    found = token_logprob(LOGITS, np.int64(1), 1)
    assert [type(value) for value in (found.token_id, found.logprob, *found.top[0])] == [
        int,
        float,
        int,
        float,
    ]


@pytest.mark.parametrize("logits", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_scores_that_are_none_are_an_error(logits):
    with pytest.raises(InferenceError):
        token_logprob(np.array(logits, np.float32), 0, 1)


@pytest.mark.parametrize("token_id", [-1, 4])
def test_a_token_outside_the_vocabulary_is_an_error(token_id):
    with pytest.raises(TokenizerError):
        token_logprob(LOGITS, token_id, 1)


def test_a_negative_number_of_likeliest_is_an_error():
    with pytest.raises(ConfigError, match="n_top"):
        token_logprob(LOGITS, 0, -1)


def test_more_than_one_row_is_an_error():
    with pytest.raises(ConfigError, match="shape"):
        token_logprob(LOGITS.reshape(2, 2), 0, 1)
