"""Several completions of one prompt: seeds of their own, one prefill, the best first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind import CancellationToken, Engine, StopReason
from smallmind_engine.runtime.choices import MAX_CHOICES, choice_seed
from smallmind_engine.telemetry import InferenceStopped, PrefillEnded, ReasonCode
from smallmind_engine.telemetry.errors import ClosedError, ConfigError, ContextOverflowError

DRAW = {"max_tokens": 6, "temperature": 1.5, "top_k": 0, "ignore_eos": True}
PROMPT = "the and in the inn"


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        yield engine


def test_choices_differ_and_a_seed_repeats_them_all(engine: Engine) -> None:
    first = engine.choices(PROMPT, 4, seed=7, **DRAW)
    assert len({choice.result.token_ids for choice in first.choices}) == 4
    assert len({choice.result.seed for choice in first.choices}) == 4
    again = engine.choices(PROMPT, 4, seed=7, **DRAW)
    assert again.texts == first.texts
    assert engine.choices(PROMPT, 4, seed=8, **DRAW).texts != first.texts


def test_a_seed_that_was_drawn_is_told_and_repeats_them_too(engine: Engine) -> None:
    first = engine.choices(PROMPT, 3, **DRAW)
    assert engine.choices(PROMPT, 3, seed=first.seed, **DRAW).texts == first.texts
    assert engine.choices(PROMPT, 3, **DRAW).seed != first.seed


def test_the_first_choice_is_what_the_seed_gives_alone(engine: Engine) -> None:
    choices = engine.choices(PROMPT, 3, seed=7, **DRAW).choices
    for choice in choices:
        alone = engine.generate(PROMPT, seed=choice_seed(7, choice.index), **DRAW)
        assert alone.token_ids == choice.result.token_ids
    assert choices[0].result.seed == 7


def test_a_long_prompt_is_computed_once(engine: Engine, recorder: Recorder) -> None:
    prompt = engine.tokenize("the and in the inn " * 24)[:150]
    result = engine.choices(prompt, 4, seed=7, **DRAW)
    computed = sorted(ended.computed_tokens for ended in recorder.of(PrefillEnded))
    assert computed == [1, 1, 1, 150]
    usage = result.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (150, 24)
    assert engine.stats().running == engine.stats().queue_depth == 0


def test_choices_share_the_steps_of_the_model(engine: Engine) -> None:
    before = engine.stats().steps
    engine.choices(PROMPT, 4, seed=7, **DRAW)
    together = engine.stats().steps - before
    for choice in engine.choices(PROMPT, 4, seed=7, **DRAW).choices:
        engine.generate(PROMPT, seed=choice.result.seed, **DRAW)
    assert together < 4 * DRAW["max_tokens"]


def test_more_choices_than_fit_are_drawn_one_after_the_other(tmp_path: Path) -> None:
    options = {"max_concurrent_requests": 2, "max_queue_depth": 0, "max_batch_size": 4}
    with tiny_engine(tmp_path, **options) as engine:
        few = engine.choices(PROMPT, 7, seed=7, **DRAW)
    with tiny_engine(tmp_path) as engine:
        assert engine.choices(PROMPT, 7, seed=7, **DRAW).texts == few.texts


def test_best_of_returns_the_likeliest_first(engine: Engine) -> None:
    best = engine.choices(PROMPT, 2, best_of=6, seed=7, **DRAW)
    drawn = engine.choices(PROMPT, 6, seed=7, logprobs=0, **DRAW)
    means = {
        choice.index: sum(t.logprob for t in choice.result.logprobs) / len(choice.result.logprobs)
        for choice in drawn.choices
    }
    expected = sorted(means, key=lambda index: -means[index])[:2]
    assert [choice.index for choice in best.choices] == expected
    assert [choice.mean_logprob for choice in best.choices] == pytest.approx(
        [means[index] for index in expected], abs=1e-6
    )
    assert best.usage.completion_tokens == 36


def test_ranking_shows_logprobs_only_to_those_who_asked(engine: Engine) -> None:
    quiet = engine.choices(PROMPT, 1, best_of=3, seed=7, **DRAW).choices[0]
    shown = engine.choices(PROMPT, 1, best_of=3, seed=7, logprobs=2, **DRAW).choices[0]
    assert quiet.result.logprobs is None
    assert shown.result.logprobs is not None
    assert len(shown.result.logprobs[0].top) == 2
    assert quiet.text == shown.text
    assert engine.choices(PROMPT, 1, seed=7, **DRAW).choices[0].mean_logprob is None


def test_a_choice_without_a_token_is_ranked_last(engine: Engine) -> None:
    bias = {0: 6.0}  # the end of the sequence; likely, but not certain
    options = {**DRAW, "ignore_eos": False, "logit_bias": bias}
    choices = engine.choices(PROMPT, 12, best_of=12, seed=3, **options).choices
    empty = [choice.mean_logprob is None for choice in choices]
    assert 0 < sum(empty) < 12
    assert empty == sorted(empty)


def test_each_choice_is_a_request_with_ids_of_its_own(engine: Engine, recorder: Recorder) -> None:
    result = engine.choices(PROMPT, 2, request_id="mine", **DRAW)
    ids = [choice.result.correlation.request_id for choice in result.choices]
    assert ids == ["mine-0", "mine-1"]
    assert sorted(e.correlation.request_id for e in recorder.of(InferenceStopped)) == ids


def test_cancelling_keeps_what_was_drawn(engine: Engine) -> None:
    token = CancellationToken()
    seen: list[int] = []

    def on_token(chunk: object) -> None:
        del chunk
        seen.append(1)
        if len(seen) == 8:
            token.cancel()

    result = engine.choices(PROMPT, 5, seed=7, cancellation=token, on_token=on_token, **DRAW)
    reasons = [choice.result.stop_reason for choice in result.choices]
    assert reasons == [StopReason.MAX_TOKENS, StopReason.CANCELLED_BY_CALLER]
    assert len(result.choices[1].result.token_ids) == 2


def test_a_deadline_is_for_all_together(engine: Engine) -> None:
    result = engine.choices(
        PROMPT, 100, seed=7, request_timeout=0.2, max_tokens=200, ignore_eos=True
    )
    assert len(result.choices) < 100
    assert result.choices[-1].result.stop_reason is StopReason.CANCELLED_BY_TIMEOUT


def test_the_async_twin_gives_the_same_and_stops_with_its_task(engine: Engine) -> None:
    async def both() -> None:
        result = await engine.achoices(PROMPT, 2, seed=7, **DRAW)
        assert result.texts == engine.choices(PROMPT, 2, seed=7, **DRAW).texts
        task = asyncio.create_task(
            engine.achoices(PROMPT, 100, max_tokens=200, ignore_eos=True, temperature=1.0)
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(both())
    assert engine.stats().running == 0


@pytest.mark.parametrize(
    ("n", "best_of"),
    [(0, None), (3, 2), (MAX_CHOICES + 1, None), (1, MAX_CHOICES + 1), (True, None)],
)
def test_counts_that_cannot_be_are_refused(engine: Engine, n: int, best_of: int | None) -> None:
    with pytest.raises(ConfigError) as caught:
        engine.choices(PROMPT, n, best_of=best_of)
    assert caught.value.reason is ReasonCode.OPTION_INVALID


def test_errors_are_those_of_a_request_and_leave_nothing_behind(engine: Engine) -> None:
    with pytest.raises(ContextOverflowError):
        engine.choices("the " * 999, 3)
    assert engine.stats().running == engine.stats().queue_depth == 0
    engine.close()
    with pytest.raises(ClosedError):
        engine.choices(PROMPT, 2)
