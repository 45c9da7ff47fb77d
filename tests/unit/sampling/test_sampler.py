"""The sampler: greedy, seeds, one number for each token, and scores that are none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smallmind_engine.sampling import Sampler, SamplingOptions
from smallmind_engine.telemetry.errors import ConfigError, InferenceError, TokenizerError
from smallmind_engine.telemetry.reasons import ReasonCode

GREEDY = SamplingOptions(temperature=0.0)
UNFILTERED = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
VOCAB = 1000


def row(*logits):
    return np.array(logits, np.float32)


def random_rows(count, vocab_size=VOCAB):
    rng = np.random.default_rng(5)
    return (rng.standard_normal((count, vocab_size)) * 3).astype(np.float32)


def test_greedy_takes_the_highest_score():
    assert Sampler(GREEDY, 4).sample(row(1.0, 3.0, 2.0, -9.0)) == 1


def test_greedy_takes_the_lowest_id_on_ties():
    assert Sampler(GREEDY, 4).sample(row(1.0, 3.0, 3.0, 3.0)) == 1


def test_greedy_follows_the_bias():
    options = SamplingOptions(temperature=0.0, logit_bias={1: -math.inf, 2: 0.5})
    assert Sampler(options, 3).sample(row(1.0, 3.0, 0.75)) == 2


def test_greedy_does_not_look_at_filters_or_seed():
    options = SamplingOptions(temperature=0.0, typical_p=0.1, top_p=0.0, seed=1)
    assert Sampler(options, 3).sample(row(9.0, 0.0, 0.0)) == 0


def test_the_logits_are_not_modified():
    logits = random_rows(1)[0]
    logits.setflags(write=False)
    before = logits.copy()
    options = SamplingOptions(repetition_penalty=1.5, logit_bias={3: 1.0}, seed=1)
    Sampler(options, VOCAB, history=[1, 2]).sample(logits)
    assert np.array_equal(before, logits)


def test_same_seed_same_tokens():
    options = SamplingOptions(seed=11, temperature=1.5, repetition_penalty=1.1)
    first, second = (Sampler(options, VOCAB, history=[1, 2, 3]) for _ in range(2))
    for logits in random_rows(50):
        token = first.sample(logits)
        assert second.sample(logits) == token
        first.accept(token)
        second.accept(token)


def test_another_seed_gives_other_tokens():
    rows = random_rows(20)
    runs = [
        [sampler.sample(logits) for logits in rows]
        for sampler in (Sampler(SamplingOptions(seed=seed, **UNFILTERED), VOCAB) for seed in (1, 2))
    ]
    assert runs[0] != runs[1]


def test_a_run_without_a_seed_can_be_repeated_with_the_one_it_drew():
    rows = random_rows(20)
    drawn = Sampler(SamplingOptions(**UNFILTERED), VOCAB)
    again = Sampler(SamplingOptions(**UNFILTERED, seed=drawn.seed), VOCAB)
    assert [drawn.sample(logits) for logits in rows] == [again.sample(logits) for logits in rows]


def test_runs_without_a_seed_differ():
    seeds = {Sampler(SamplingOptions(), VOCAB).seed for _ in range(8)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_a_generator_that_is_handed_in_gives_the_seed_only_when_the_options_have_none():
    seeds = [
        Sampler(SamplingOptions(seed=seed), VOCAB, rng=np.random.default_rng(3)).seed
        for seed in (None, None, 7)
    ]
    assert seeds[0] == seeds[1] != 7
    assert seeds[2] == 7


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 1},
        {"top_p": 0.1},
        {"min_p": 0.5},
        {"typical_p": 0.2},
        {"repetition_penalty": 1.3},
    ],
)
def test_each_token_takes_exactly_one_uniform_number_whatever_the_options(options):
    sampler = Sampler(SamplingOptions(seed=23, **(UNFILTERED | options)), VOCAB)
    for logits in random_rows(7):
        sampler.sample(logits)
    reference = np.random.Generator(np.random.PCG64(23))
    reference.random(7)
    assert sampler._uniform() == reference.random()


def test_the_uniform_number_decides_by_the_shares_in_the_order_of_ids():
    sampler = Sampler(SamplingOptions(seed=4, **UNFILTERED), VOCAB)
    flat = np.zeros(VOCAB, np.float32)
    expected = np.floor(np.random.Generator(np.random.PCG64(4)).random(100) * VOCAB)
    assert [sampler.sample(flat) for _ in range(100)] == expected.tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_an_error_naming_the_token(temperature, broken):
    options = SamplingOptions(temperature=temperature)
    with pytest.raises(InferenceError, match=r"score of token 2 is (nan|inf): 1 of 4 ") as caught:
        Sampler(options, 4).sample(row(0.0, 1.0, broken, 2.0))
    assert caught.value.reason is ReasonCode.NON_FINITE_LOGITS
    assert caught.value.details == {"token_id": 2, "count": 1}


def test_a_penalty_does_not_hide_a_score_that_is_no_number():
    options = SamplingOptions(frequency_penalty=1.0, logit_bias={0: -math.inf})
    with pytest.raises(InferenceError):
        Sampler(options, 2, history=[0]).sample(row(math.inf, 1.0))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_masked_token_is_never_chosen(temperature):
    sampler = Sampler(SamplingOptions(temperature=temperature, top_k=0, seed=1), 3)
    assert {sampler.sample(row(-math.inf, -50.0, -math.inf)) for _ in range(20)} == {1}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_no_token_left_is_an_error(temperature):
    options = SamplingOptions(temperature=temperature, logit_bias={0: -math.inf})
    with pytest.raises(InferenceError, match="all 2 tokens are masked") as caught:
        Sampler(options, 2).sample(row(1.0, -math.inf))
    assert caught.value.reason is ReasonCode.NON_FINITE_LOGITS


def test_a_vocabulary_of_one_token_has_one_answer():
    assert Sampler(SamplingOptions(seed=1), 1).sample(row(-3.0)) == 0


@pytest.mark.parametrize("shape", [(3,), (5,), (1, 4), (4, 1), ()])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(ConfigError, match=r"shape .*, but the vocabulary needs \(4,\)"):
        Sampler(GREEDY, 4).sample(np.zeros(shape, np.float32))


@pytest.mark.parametrize("vocab_size", [0, -1])
def test_an_empty_vocabulary_is_refused(vocab_size):
    with pytest.raises(ConfigError, match="vocab_size"):
        Sampler(GREEDY, vocab_size)


def test_a_bias_outside_the_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="names token 4, but the vocabulary ends at 3"):
        Sampler(SamplingOptions(logit_bias={0: 1.0, 4: 1.0}), 4)


@pytest.mark.parametrize("token_id", [-1, 4])
def test_an_id_outside_the_vocabulary_is_refused(token_id):
    with pytest.raises(TokenizerError, match=r"outside the vocabulary, 0\.\.3") as caught:
        Sampler(GREEDY, 4, history=[token_id])
    assert caught.value.reason is ReasonCode.TOKENIZER_TOKEN_ID_INVALID
    with pytest.raises(TokenizerError):
        Sampler(GREEDY, 4).accept(token_id)
