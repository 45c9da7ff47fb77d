"""Laws of the filters, and the whole chain against a slow reference in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from smallmind_engine.sampling import Sampler, SamplingOptions, token_logprob
from smallmind_engine.sampling.filters import (
    Candidates,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
)
from smallmind_engine.sampling.selection import highest

LAW = settings(derandomize=True, deadline=None, max_examples=100)
EDGE = 1e-9  # nearer to a filter's border than this, rounding decides, and either side is right

# Whole numbers beside arbitrary ones, so that ties are common.
FINITE = st.one_of(
    st.integers(-8, 8).map(float),
    st.floats(-40.0, 40.0, width=32, allow_subnormal=False),
)
LOGITS = st.lists(FINITE, min_size=1, max_size=40)
MASKED_LOGITS = st.lists(st.one_of(FINITE, st.just(-math.inf)), min_size=1, max_size=40).filter(
    lambda logits: max(logits) > -math.inf
)
SHARE = st.floats(0.0, 1.0)


# -- the slow reference: dictionaries from id to logit, sorted by hand ------------------------


def slow_probabilities(logits: dict[int, float]) -> dict[int, float]:
    top = max(logits.values())
    shares = {i: math.exp(logit - top) for i, logit in logits.items()}
    total = math.fsum(shares.values())
    return {i: share / total for i, share in shares.items()}


def slow_top_k(logits: dict[int, float], k: int) -> dict[int, float]:
    best_first = sorted(logits, key=lambda i: (-logits[i], i))
    return {i: logits[i] for i in (best_first[:k] if k else best_first)}


def slow_typical(logits: dict[int, float], p: float) -> dict[int, float]:
    if p >= 1.0:
        return logits
    probabilities = slow_probabilities(logits)
    surprise = {i: -math.log(q) if q else math.inf for i, q in probabilities.items()}
    entropy = math.fsum(q * surprise[i] for i, q in probabilities.items() if q)
    # Rounded: what differs in the last digits is as near to the entropy as its neighbour.
    order = sorted(logits, key=lambda i: (round(abs(surprise[i] - entropy), 9), i))
    return slow_until(logits, order, lambda mass: mass > p, probabilities)


def slow_top_p(logits: dict[int, float], p: float) -> dict[int, float]:
    if p >= 1.0:
        return logits
    order = sorted(logits, key=lambda i: (-logits[i], i))
    return slow_until(logits, order, lambda mass: mass >= p, slow_probabilities(logits))


def slow_until(logits, order, enough, probabilities) -> dict[int, float]:
    kept: dict[int, float] = {}
    for i in order:
        kept[i] = logits[i]
        if enough(math.fsum(probabilities[j] for j in kept)):
            break
    return kept


def slow_min_p(logits: dict[int, float], p: float) -> dict[int, float]:
    if p <= 0.0:
        return logits
    probabilities = slow_probabilities(logits)
    return {i: logits[i] for i, q in probabilities.items() if q >= p * max(probabilities.values())}


def float32(value: float) -> float:
    return float(np.float32(value))


def slow_adjusted(
    logits: Sequence[float], seen: Sequence[int], options: SamplingOptions
) -> dict[int, float]:
    window = options.penalty_window
    counts = Counter(seen if window < 0 else [*reversed(seen)][:window])
    adjusted = dict(enumerate(logits))
    for i, bias in (options.logit_bias or {}).items():
        adjusted[i] = float32(adjusted[i] + bias)
    if options.penalizes:
        for i, count in counts.items():
            logit = adjusted[i]
            factor = options.repetition_penalty
            logit = logit / factor if logit > 0 else logit * factor
            logit -= count * options.frequency_penalty + options.presence_penalty
            adjusted[i] = float32(logit)
    return {i: logit for i, logit in adjusted.items() if logit > -math.inf}


def slow_filtered(
    adjusted: dict[int, float], options: SamplingOptions, shift: float
) -> dict[int, float]:
    """The filters, each mass border moved by ``shift``."""

    def moved(p: float) -> float:
        return p if p in {0.0, 1.0} else min(max(p + shift, 0.0), 1.0 - EDGE)

    left = slow_top_k(adjusted, options.top_k)
    left = slow_typical(left, moved(options.typical_p))
    left = slow_top_p(left, moved(options.top_p))
    return slow_min_p(left, options.min_p * (1.0 - shift))


# -- the filters --------------------------------------------------------------------------------


def candidates(logits: Sequence[float]) -> Candidates:
    return keep_top_k(np.array(logits, np.float32), 0)


def mass_of(found: Candidates, among: Candidates) -> float:
    probabilities = slow_probabilities(dict(enumerate(among.logits.tolist())))
    inside = set(found.ids.tolist())
    return math.fsum(q for i, q in probabilities.items() if int(among.ids[i]) in inside)


@LAW
@given(MASKED_LOGITS, st.integers(0, 50), SHARE, SHARE, SHARE)
def test_every_filter_keeps_at_least_one_and_invents_none(logits, k, typical_p, top_p, min_p):
    steps = [keep_top_k(np.array(logits, np.float32), k)]
    steps.append(keep_typical(steps[-1], typical_p))
    steps.append(keep_top_p(steps[-1], top_p))
    steps.append(keep_min_p(steps[-1], min_p))
    for step in steps:
        assert step.ids.size >= 1
        assert (np.diff(step.ids) > 0).all()
        assert step.logits.tolist() == [logits[i] for i in step.ids]
    for before, after in pairwise(steps):
        assert set(after.ids.tolist()) <= set(before.ids.tolist())


@LAW
@given(LOGITS, SHARE)
@example([0.0, 0.0, 1.1754943508222875e-38], 0.5)  # probabilities that round to one number
def test_top_p_keeps_a_minimal_set_of_the_likeliest(logits, p):
    everything = candidates(logits)
    found = keep_top_p(everything, p)
    left_out = set(everything.ids.tolist()) - set(found.ids.tolist())
    assert mass_of(found, everything) >= p - EDGE
    if p < 1.0 and found.ids.size > 1:
        weakest = min(found.ids.tolist(), key=lambda i: (logits[i], -i))
        without = found.only(found.ids != weakest)
        assert mass_of(without, everything) < p + EDGE
        assert all((logits[i], -i) < (logits[weakest], -weakest) for i in left_out)


@LAW
@given(LOGITS, SHARE)
def test_typical_p_keeps_more_than_its_mass(logits, p):
    everything = candidates(logits)
    assert mass_of(keep_typical(everything, p), everything) >= p - EDGE


@LAW
@given(LOGITS, st.floats(0.01, 1.0))
def test_min_p_keeps_exactly_what_is_likely_enough(logits, p):
    everything = candidates(logits)
    found = keep_min_p(everything, p)
    assert int(np.argmax(logits)) in found.ids
    for i, ratio in enumerate(np.exp(everything.logits - everything.logits.max()).tolist()):
        if abs(ratio - p) > EDGE:
            assert (i in found.ids) == (ratio > p)


@LAW
@given(
    st.lists(FINITE, min_size=1, max_size=30, unique=True),
    st.randoms(use_true_random=False),
    st.integers(0, 30),
    SHARE,
    SHARE,
    SHARE,
)
def test_renaming_the_tokens_renames_what_is_kept(logits, random, k, typical_p, top_p, min_p):
    def kept(row: list[float]) -> list[float]:
        found = keep_typical(keep_top_k(np.array(row, np.float32), k), typical_p)
        return sorted(keep_min_p(keep_top_p(found, top_p), min_p).logits.tolist())

    shuffled = random.sample(logits, len(logits))
    probabilities = slow_probabilities(dict(enumerate(logits)))
    assume(len({round(q, 9) for q in probabilities.values()}) == len(logits))
    assume(len(kept(logits)) == len(kept(shuffled)))  # rounding at a border, nothing else
    assert kept(logits) == kept(shuffled)


@LAW
@given(
    st.integers(1, 5000),
    st.integers(0, 300),
    st.integers(0, 2**32 - 1),
    st.sampled_from([2, 50, 100_000]),
)
def test_highest_is_a_stable_sort_by_falling_value(size, count, seed, levels):
    values = np.random.default_rng(seed).integers(0, levels, size).astype(np.float32)
    expected = np.sort(np.argsort(-values, kind="stable")[:count])
    assert np.array_equal(highest(values, count), expected)


# -- the whole chain ----------------------------------------------------------------------------


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[float], list[int], SamplingOptions]:
    logits = draw(MASKED_LOGITS)
    token = st.integers(0, len(logits) - 1)
    small = st.floats(-2.0, 2.0)
    options = SamplingOptions(
        temperature=draw(st.one_of(st.just(0.0), st.floats(0.05, 5.0))),
        top_k=draw(st.integers(0, 45)),
        top_p=draw(st.one_of(st.just(1.0), SHARE)),
        min_p=draw(st.one_of(st.just(0.0), SHARE)),
        typical_p=draw(st.one_of(st.just(1.0), SHARE)),
        repetition_penalty=draw(st.one_of(st.just(1.0), st.floats(0.5, 3.0))),
        frequency_penalty=draw(st.one_of(st.just(0.0), small)),
        presence_penalty=draw(st.one_of(st.just(0.0), small)),
        penalty_window=draw(st.integers(-1, 12)),
        logit_bias=draw(st.dictionaries(token, st.one_of(small, st.just(-math.inf)), max_size=4)),
        seed=draw(st.integers(0, 2**63 - 1)),
    )
    return logits, draw(st.lists(token, max_size=20)), options


@settings(derandomize=True, deadline=None, max_examples=150)
@given(requests(), st.data())
def test_what_is_not_allowed_is_as_if_its_score_were_minus_infinity(request_, data):
    logits, seen, options = request_
    allowed = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(logits), max_size=len(logits)))
    )
    scores = np.array(logits, np.float32)
    bias = {i: -math.inf for i in range(len(logits)) if not allowed[i]}
    masked = replace(options, logit_bias={**(options.logit_bias or {}), **bias})
    assume(slow_adjusted(logits, seen, masked))
    constrained = Sampler(options, len(logits), history=seen)
    forbidding = Sampler(masked, len(logits), history=seen)
    assert constrained.sample(scores, allowed) == forbidding.sample(scores)
    if constrained.kept is not None and forbidding.kept is not None:
        assert constrained.kept.tolist() == forbidding.kept.tolist()


@settings(derandomize=True, deadline=None, max_examples=150)
@given(requests())
def test_the_chain_draws_what_the_slow_reference_draws(request_):
    logits, seen, options = request_
    adjusted = slow_adjusted(logits, seen, options)
    assume(adjusted)
    sampler = Sampler(options, len(logits), history=seen)
    token = sampler.sample(np.array(logits, np.float32))
    if options.temperature == 0.0:
        assert token == min(adjusted, key=lambda i: (-adjusted[i], i))
        return
    left = slow_filtered(adjusted, options, 0.0)
    assert token in slow_top_k(adjusted, options.top_k)
    assume(all(slow_filtered(adjusted, options, shift) == left for shift in (-EDGE, EDGE)))
    shares = slow_probabilities({i: left[i] / options.temperature for i in sorted(left)})
    uniform = np.random.Generator(np.random.PCG64(options.seed)).random()
    end = 0.0
    for i, share in shares.items():
        end += share
        assume(abs(end - uniform) > EDGE)
        if uniform < end:
            assert token == i
            return


@LAW
@given(MASKED_LOGITS, st.integers(0, 50), st.data())
def test_logprobs_are_the_log_softmax_of_the_slow_reference(logits, n_top, data):
    token = data.draw(st.integers(0, len(logits) - 1))
    present = {i: logit for i, logit in enumerate(logits) if logit > -math.inf}
    slow = {i: math.log(q) for i, q in slow_probabilities(present).items()}
    found = token_logprob(np.array(logits, np.float32), token, n_top)
    assert math.isclose(found.logprob, slow.get(token, -math.inf), rel_tol=1e-9, abs_tol=1e-12)
    assert [i for i, _ in found.top] == sorted(slow, key=lambda i: (-logits[i], i))[:n_top]
    assert all(math.isclose(value, slow[i], rel_tol=1e-9, abs_tol=1e-12) for i, value in found.top)


def test_draws_follow_the_softmax_by_chi_square():
    temperature, draws = 0.7, 20_000
    logits = np.linspace(-1.5, 1.5, 12).astype(np.float32)
    sampler = Sampler(
        SamplingOptions(temperature=temperature, top_k=0, top_p=1.0, seed=2024), logits.size
    )
    seen = Counter(sampler.sample(logits) for _ in range(draws))
    shares = slow_probabilities(dict(enumerate((logits / np.float32(temperature)).tolist())))
    statistic = sum((seen[i] - draws * q) ** 2 / (draws * q) for i, q in shares.items())
    assert statistic < 31.26  # 99.9 % of the chi-square distribution with 11 degrees of freedom


def test_draws_behind_filters_follow_the_softmax_of_what_is_left():
    logits = np.log(np.array([0.05, 0.4, 0.15, 0.3, 0.1])).astype(np.float32)
    options = SamplingOptions(temperature=1.0, top_k=4, top_p=0.8, seed=99)
    sampler, draws = Sampler(options, 5), 20_000
    seen = Counter(sampler.sample(logits) for _ in range(draws))
    shares = {1: 0.4 / 0.85, 2: 0.15 / 0.85, 3: 0.3 / 0.85}
    assert set(seen) == set(shares)
    statistic = sum((seen[i] - draws * q) ** 2 / (draws * q) for i, q in shares.items())
    assert statistic < 13.82  # 99.9 % with 2 degrees of freedom
