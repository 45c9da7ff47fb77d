"""A budget is kept by going down the ladder, or by refusing with what would fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smallmind_engine.memory import (
    RUNG_REASONS,
    LimitSource,
    MemoryBudgetMode,
    MemoryCategory,
    MemoryDemand,
    MemoryLimit,
    MemoryRequest,
    MemoryRung,
    choose_plan,
)
from smallmind_engine.telemetry import DegradeReason, ReasonCode
from smallmind_engine.telemetry.errors import MemoryBudgetError

FULL = MemoryDemand(
    backend="fused",
    weights="resident",
    kv_cache_type="f16",
    weight_bytes=100_000,
    tokenizer_bytes=10_000,
    scratch_bytes=20_000,
    kernels_bytes=5_000,
    prefix_store_bytes=15_000,
    kv_bytes_per_token=100,
    largest_tensor="output.weight",
    largest_tensor_bytes=30_000,
)
BYTES = replace(FULL, kv_cache_type="int8", kv_bytes_per_token=50)
LAYERS = replace(
    FULL,
    backend="plain",
    weights="per_layer",
    kv_cache_type="f32",
    weight_bytes=10_000,
    kernels_bytes=0,
    kv_bytes_per_token=200,
    largest_tensor_bytes=8_000,
)
CONTEXT = 2048
FIXED = FULL.fixed_bytes
BARE = FIXED - FULL.prefix_store_bytes
STRICT, BEST, NONE = MemoryBudgetMode.STRICT, MemoryBudgetMode.BEST_EFFORT, MemoryBudgetMode.NONE


def request(limit: int | None, mode: MemoryBudgetMode, **changes: object) -> MemoryRequest:
    made = MemoryRequest(
        ways=(FULL, BYTES, LAYERS),
        context_length=CONTEXT,
        context_asked=False,
        prefix_asked=True,
        mode=mode,
        limit=None if limit is None else MemoryLimit(LimitSource.OPTION, limit),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", list(MemoryBudgetMode))
def test_what_fits_is_taken_as_asked(mode: MemoryBudgetMode) -> None:
    plan = choose_plan(request(FIXED + CONTEXT * 100, mode))
    assert (plan.demand, plan.kv_tokens, plan.steps, plan.fits) == (FULL, CONTEXT, (), True)
    assert sum(size for _, size in plan.shares) == plan.total_bytes == FIXED + CONTEXT * 100


def test_the_first_rung_is_a_smaller_kv_cache() -> None:
    plan = choose_plan(request(FIXED + 1000 * 100, BEST))
    (step,) = plan.steps
    assert (plan.demand, plan.kv_tokens) == (FULL, 960)
    assert (step.rung, step.category) == (MemoryRung.SMALLER_KV_CACHE, MemoryCategory.KV_CACHE)
    assert step.saved_bytes == (CONTEXT - 960) * 100


def test_the_second_rung_is_a_quantised_one() -> None:
    plan = choose_plan(request(FIXED + 300 * 100, BEST))
    assert (plan.demand, plan.kv_tokens) == (BYTES, 576)
    assert [step.rung for step in plan.steps] == [
        MemoryRung.SMALLER_KV_CACHE,
        MemoryRung.QUANTISED_KV_CACHE,
    ]


def test_the_third_rung_holds_weights_per_layer() -> None:
    plan = choose_plan(request(LAYERS.fixed_bytes + 600 * 200, BEST, context_length=600))
    assert (plan.demand, plan.kv_tokens) == (LAYERS, 600)
    (step,) = plan.steps
    assert (step.rung, step.saved_bytes) == (MemoryRung.WEIGHTS_PER_LAYER, 90_000)
    assert "plain" in step.message


def test_the_last_rung_does_without_a_prefix_store() -> None:
    limit = LAYERS.fixed_bytes - LAYERS.prefix_store_bytes + 12_800
    plan = choose_plan(request(limit, BEST, ways=(FULL, LAYERS)))
    assert plan.demand.prefix_store_bytes == 0
    assert plan.steps[-1].rung is MemoryRung.NO_PREFIX_STORE
    assert plan.steps[-1].saved_bytes == 15_000
    assert plan.fits


def test_less_than_a_block_of_kv_cache_is_refused_even_with_best_effort() -> None:
    with pytest.raises(MemoryBudgetError, match="would fit: max_memory_bytes=") as caught:
        choose_plan(request(10_000, BEST))
    assert caught.value.reason is ReasonCode.MEMORY_BUDGET_EXCEEDED


def test_strict_keeps_what_was_asked_for_or_refuses_with_what_would_fit() -> None:
    wanted = FIXED + 1024 * 100
    with pytest.raises(MemoryBudgetError) as caught:
        choose_plan(request(wanted - 5000, STRICT, context_length=1024, context_asked=True))
    details = caught.value.details
    assert details["suggestions"] == {
        "context_length": 960,
        "kv_cache_type": "int8",
        "max_memory_bytes": wanted,
    }
    assert details["wanted_by_category"] == {
        "weights": 100_000,
        "kv_cache": 102_400,
        "scratch": 20_000,
        "prefix_store": 15_000,
        "tokenizer": 10_000,
        "kernels": 5_000,
    }
    assert details["free_bytes"] == wanted - 5000
    assert "kv_cache 102400" in str(caught.value)


def test_each_suggestion_of_strict_does_fit() -> None:
    asked = request(FIXED + 20_000, STRICT, context_length=1024, context_asked=True)
    with pytest.raises(MemoryBudgetError) as caught:
        choose_plan(asked)
    found = caught.value.details["suggestions"]
    assert isinstance(found, dict)
    assert choose_plan(replace(asked, context_length=found["context_length"])).fits
    more = MemoryLimit(LimitSource.OPTION, found["max_memory_bytes"])
    assert choose_plan(replace(asked, limit=more)).demand == FULL


def test_strict_gives_what_is_left_to_a_context_nobody_asked_for() -> None:
    plan = choose_plan(request(FIXED + 70 * 100, STRICT))
    assert (plan.kv_tokens, plan.steps) == (64, ())


def test_without_a_mode_a_limit_is_only_compared_with() -> None:
    plan = choose_plan(request(1000, NONE))
    assert (plan.demand, plan.kv_tokens, plan.fits) == (FULL, CONTEXT, False)


def test_without_a_mode_weights_that_the_machine_cannot_hold_are_held_per_layer() -> None:
    plan = choose_plan(request(None, NONE, machine_bytes=BARE - 1))
    assert plan.demand == LAYERS
    assert [step.rung for step in plan.steps] == [MemoryRung.WEIGHTS_PER_LAYER]
    asked = choose_plan(request(None, NONE, machine_bytes=BARE - 1, ways=(FULL, BYTES)))
    assert asked.demand == FULL


def test_what_is_taken_already_is_not_there() -> None:
    plan = choose_plan(request(FIXED + 3000 * 100, BEST, taken_bytes=200_000))
    assert plan.kv_tokens == 960


@pytest.mark.parametrize("mode", list(MemoryBudgetMode))
def test_a_tensor_that_is_too_large_is_refused_by_name(mode: MemoryBudgetMode) -> None:
    with pytest.raises(MemoryBudgetError, match=r"output\.weight") as caught:
        choose_plan(request(None, mode, ways=(FULL, BYTES), max_tensor_bytes=29_999))
    assert caught.value.details["suggestions"] == {"max_tensor_bytes": 30_000}
    assert choose_plan(request(None, mode, max_tensor_bytes=30_000)).demand == FULL


def test_a_tensor_that_is_too_large_whole_may_be_held_in_pieces() -> None:
    assert choose_plan(request(None, NONE, max_tensor_bytes=29_999)).demand == LAYERS


@pytest.mark.parametrize("mode", [STRICT, BEST])
def test_a_prefix_store_that_nobody_asked_for_gets_what_is_left(mode: MemoryBudgetMode) -> None:
    """It gives way to requests, so it neither refuses a model nor takes a rung."""
    limit = BARE + CONTEXT * 100 + 10_000
    plan = choose_plan(request(limit, mode, prefix_asked=False))
    assert (plan.kv_tokens, plan.demand.prefix_store_bytes, plan.steps) == (CONTEXT, 6400, ())
    assert plan.fits
    whole = choose_plan(request(None, mode, prefix_asked=False))
    assert whole.demand == FULL
    none = choose_plan(request(BARE + 640 * 100, mode, prefix_asked=False))
    assert (none.kv_tokens, none.demand.prefix_store_bytes) == (640, 0)


def test_every_rung_has_a_reason() -> None:
    assert set(RUNG_REASONS) == set(MemoryRung)
    assert DegradeReason.MEMORY_BUDGET_SOFT_LIMIT in set(RUNG_REASONS.values())


@given(
    limit=st.integers(1, 600_000),
    context=st.integers(1, 4096),
    asked=st.booleans(),
    taken=st.integers(0, 100_000),
    prefix=st.booleans(),
)
def test_a_plan_of_an_enforced_budget_always_fits(
    *, limit: int, context: int, asked: bool, taken: int, prefix: bool
) -> None:
    for mode in (STRICT, BEST):
        made = request(limit, mode, context_length=context, context_asked=asked, taken_bytes=taken)
        made = replace(made, prefix_asked=prefix)
        try:
            plan = choose_plan(made)
        except MemoryBudgetError:
            continue
        assert plan.total_bytes + taken <= limit
        assert plan.kv_tokens <= context
        assert all(step.saved_bytes > 0 for step in plan.steps)
