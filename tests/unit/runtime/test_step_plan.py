"""Who takes part in a step: all that decode, and a bounded part of the prompts."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from smallmind_engine.runtime.step_plan import TARGET_STEP_S, StepSpeed, one_by_one, together
from smallmind_engine.runtime.work import DECODE, PAUSED, PREFILL
from smallmind_engine.telemetry import now_ns


def work(stage: object, missing: int = 1, stepped_ns: int = 0, limit: int = 0) -> SimpleNamespace:
    """As much of a request as planning looks at."""
    return SimpleNamespace(
        stage=stage,
        missing=missing,
        stepped_ns=stepped_ns,
        paused_ns=now_ns(),
        outlet=SimpleNamespace(in_step=limit == 0),
    )


WORKS = st.lists(
    st.builds(
        work,
        st.sampled_from([DECODE, PREFILL, PAUSED]),
        st.integers(1, 600),
        st.integers(0, 100),
    ),
    max_size=40,
)


@given(WORKS, st.integers(2, 32), st.integers(1, 512))
def test_a_step_keeps_its_bounds_and_forgets_nobody(
    live: list[SimpleNamespace], most: int, budget: int
) -> None:
    shares = together(live, most_sequences=most, budget=lambda _: budget)  # type: ignore[arg-type]
    chosen = [id(each) for each, _ in shares]
    assert len(chosen) == len(set(chosen)) <= most
    assert all(1 <= count <= each.missing for each, count in shares if each.stage is PREFILL)
    assert sum(count for each, count in shares if each.stage is PREFILL) <= budget
    ready = [each for each in live if each.stage is not PAUSED]
    assert bool(shares) == bool(ready)
    prompts = [each for each in ready if each.stage is PREFILL]
    if prompts:
        assert id(prompts[0]) in chosen  # the earliest prompt always goes on
    decoding = [each for each in ready if each.stage is DECODE]
    if len(decoding) <= most - bool(prompts):
        assert {id(each) for each in decoding} <= set(chosen)


def test_those_go_first_that_have_waited_longest() -> None:
    live = [work(DECODE, stepped_ns=moment) for moment in (3, 1, 2)]
    shares = together(live, most_sequences=2, budget=lambda _: 10)  # type: ignore[arg-type]
    assert [each.stepped_ns for each, _ in shares] == [1, 2]
    (only,) = one_by_one(live, budget=lambda _: 10)  # type: ignore[arg-type]
    assert only[0].stepped_ns == 1


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    long, short = work(PREFILL, missing=1000), work(PREFILL, missing=5)
    shares = together([long, short], most_sequences=4, budget=lambda _: 64)  # type: ignore[list-item]
    assert [(each.missing, count) for each, count in shares] == [(1000, 59), (5, 5)]


def test_the_budget_keeps_steps_near_their_target() -> None:
    speed = StepSpeed(None, 512)
    for _ in range(50):
        speed.note(0, 4, 0.010)
        speed.note(100, 0, 0.100)  # a millisecond for a token
    decoding = [work(DECODE)]
    budget = speed.budget(decoding)  # type: ignore[arg-type]
    assert abs(0.010 + budget * 0.001 - TARGET_STEP_S) <= 0.001
    assert speed.budget([work(PREFILL)]) == 512  # type: ignore[list-item]


def test_a_request_in_step_with_its_reader_counts_as_decoding() -> None:
    speed = StepSpeed(7, 512)
    assert speed.budget([work(PAUSED)]) == 7  # type: ignore[list-item]
    assert speed.budget([work(PAUSED, limit=3)]) == 512  # type: ignore[list-item]


def test_a_slow_machine_still_gets_on_with_prompts() -> None:
    speed = StepSpeed(None, 512)
    speed.note(20, 0, 20.0)
    speed.note(0, 1, 1.0)
    assert speed.budget([work(DECODE)]) == 16  # type: ignore[list-item]


def test_a_step_with_few_tokens_of_prompts_does_not_tell_what_many_would_take() -> None:
    speed = StepSpeed(None, 512)
    speed.note(0, 1, 0.005)
    speed.note(100, 0, 0.100)
    before = speed.budget([work(DECODE)])  # type: ignore[list-item]
    for _ in range(50):
        speed.note(2, 0, 0.008)
    assert speed.budget([work(DECODE)]) == before  # type: ignore[list-item]
