"""How sure the model was, against SciPy-free textbook formulas in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallmind_engine.sampling import ConfidenceMeter, Sampler, SamplingOptions
from smallmind_engine.telemetry.errors import InferenceError


def textbook(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits.astype(np.float64) - logits.max())
    return shares / shares.sum()


@given(
    st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=60),
    st.integers(0, 10**6),
)
def test_every_number_is_the_one_of_the_textbook(values, pick):
    logits = np.array(values, np.float32)
    token = pick % logits.size
    shares = textbook(logits)
    found = ConfidenceMeter(logits.size).measure(logits, token)
    present = shares[shares > 0]
    assert found.entropy == pytest.approx(-(present * np.log(present)).sum(), abs=1e-4)
    assert found.logprob == pytest.approx(math.log(shares[token]), abs=1e-4)
    assert found.rank == 1 + np.count_nonzero(logits > logits[token])
    best_two = np.sort(shares)[-2:]
    assert found.margin == pytest.approx(best_two[1] - best_two[0], abs=1e-5)
    assert found.removed_mass == 0.0


def test_the_removed_mass_is_that_of_the_tokens_outside_the_draw():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = Sampler(SamplingOptions(temperature=1.0, top_k=2, top_p=1.0, seed=1), 4)
    token = sampler.sample(logits)
    found = ConfidenceMeter(4).measure(logits, token, sampler.kept)
    assert sampler.kept.tolist() == [0, 1]
    assert found.removed_mass == pytest.approx(0.2, abs=1e-6)


def test_a_masked_token_has_no_share_and_the_row_is_left_as_it_is():
    logits = np.array([0.0, -np.inf, 0.0], np.float32)
    before = logits.copy()
    found = ConfidenceMeter(3).measure(logits, 0)
    assert found.entropy == pytest.approx(math.log(2), abs=1e-6)
    assert found.margin == 0.0
    np.testing.assert_array_equal(logits, before)


def test_what_is_not_finite_is_refused():
    with pytest.raises(InferenceError):
        ConfidenceMeter(2).measure(np.array([0.0, np.nan], np.float32), 0)
