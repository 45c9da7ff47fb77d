"""Budgets and estimates as users meet them: options, errors, events, the engine's own account."""

from __future__ import annotations

from pathlib import Path

import pytest

import smallmind
from engines import TINY, Recorder, tiny_engine
from smallmind import MemoryCategory
from smallmind_engine.memory import LimitSource, MemoryLimit, MemoryRung
from smallmind_engine.model import loader as loader_module
from smallmind_engine.telemetry import (
    Degraded,
    DegradeReason,
    LogLevel,
    MemoryBudgetEvent,
    MemoryUsage,
    ModelLoadEnded,
    ReasonCode,
    RequestStatus,
    RuntimeLogEvent,
)
from smallmind_engine.telemetry.errors import ConfigError, MemoryBudgetError
from tiny_models import write_tiny_model

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 5}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.gguf", TINY)


def test_an_estimate_is_what_the_load_then_plans(path: Path) -> None:
    estimate = smallmind.estimate_memory(path, context_length=128)
    with smallmind.load(path, exporters=(), context_length=128) as engine:
        plan = engine.memory_plan
    assert (estimate.demand, estimate.kv_tokens) == (plan.demand, plan.kv_tokens)
    assert dict(plan.shares)[MemoryCategory.WEIGHTS] == plan.demand.weight_bytes > 0


def test_an_estimate_leaves_no_file_open_and_takes_nothing(path: Path) -> None:
    before = path.stat().st_atime_ns, set(Path("/proc/self/fd").glob("*"))
    assert smallmind.estimate_memory(path).total_bytes > 0
    assert set(Path("/proc/self/fd").glob("*")) <= before[1]


def test_the_account_of_an_engine_is_its_plan_until_it_is_closed(path: Path) -> None:
    engine = smallmind.load(path, exporters=())
    shares = dict(engine.memory_plan.shares)
    for usage in engine.memory:
        later = usage.category in {MemoryCategory.KV_CACHE, MemoryCategory.PREFIX_STORE}
        assert usage.current_bytes == (0 if later else shares[usage.category])
    engine.close()
    assert {usage.current_bytes for usage in engine.memory} == {0}
    assert max(usage.high_water_bytes for usage in engine.memory) > 0


def test_strict_refuses_before_anything_is_allocated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = smallmind.estimate_memory(
        path, context_length=256, backend="numpy", prefix_cache=False
    ).total_bytes
    monkeypatch.setattr(loader_module.TokenizerFactory, "create", None)
    recorder = Recorder()
    with pytest.raises(MemoryBudgetError, match="would fit: context_length=192") as caught:
        smallmind.load(
            path,
            exporters=[recorder],
            backend="numpy",
            context_length=256,
            max_memory_bytes=wanted - 1,
            memory_budget_mode="strict",
        )
    assert caught.value.details["suggestions"]["max_memory_bytes"] == wanted
    assert set(caught.value.details["wanted_by_category"]) == set(MemoryCategory)
    (refused,) = recorder.of(MemoryBudgetEvent)
    assert (refused.reason, refused.wanted_bytes) == (ReasonCode.MEMORY_BUDGET_EXCEEDED, wanted)
    (ended,) = recorder.of(ModelLoadEnded)
    assert (ended.status, ended.reason) == (
        RequestStatus.FAILED,
        ReasonCode.MEMORY_BUDGET_EXCEEDED,
    )
    assert recorder.of(MemoryUsage) == []


def test_what_strict_says_would_fit_does_fit(path: Path) -> None:
    options = {"exporters": (), "backend": "numpy", "memory_budget_mode": "strict"}
    wanted = smallmind.estimate_memory(
        path, context_length=256, backend="numpy", prefix_cache=False
    ).total_bytes
    with smallmind.load(path, **options, context_length=256, max_memory_bytes=wanted) as engine:
        assert engine.generate("the", **GREEDY).usage.completion_tokens == 5
    with smallmind.load(path, **options, context_length=192, max_memory_bytes=wanted - 1) as engine:
        assert engine.memory_plan.fits


def test_best_effort_takes_rungs_and_tells_what_each_saves(path: Path) -> None:
    pytest.importorskip("numba")
    whole = smallmind.estimate_memory(path, backend="numba", prefix_cache=False)
    recorder = Recorder()
    with smallmind.load(
        path,
        exporters=[recorder],
        backend="numba",
        max_memory_bytes=whole.total_bytes - 100 * whole.demand.kv_bytes_per_token,
        memory_budget_mode="best_effort",
    ) as engine:
        plan = engine.memory_plan
        assert engine.model.runner.kv_type == plan.demand.kv_cache_type == "int8"
        assert engine.generate("the", **GREEDY).usage.completion_tokens == 5
        assert {usage.current_bytes for usage in engine.memory if usage.category == "kv_cache"} == {
            0
        }
    rungs = [step.rung for step in plan.steps]
    assert rungs == [MemoryRung.SMALLER_KV_CACHE, MemoryRung.QUANTISED_KV_CACHE]
    told = recorder.of(MemoryBudgetEvent)[:2]
    assert [event.wanted_bytes - event.granted_bytes for event in told] == [
        step.saved_bytes for step in plan.steps
    ]
    messages = [event.message for event in recorder.of(Degraded) if event.component == "memory"]
    assert all(
        f"saves {step.saved_bytes} bytes" in message
        for step, message in zip(plan.steps, messages, strict=True)
    )


def test_best_effort_holds_weights_per_layer_when_nothing_else_helps(path: Path) -> None:
    with smallmind.load(path, exporters=(), backend="numpy") as engine:
        expected = engine.generate("the", **GREEDY).token_ids
        whole = engine.memory_plan
    recorder = Recorder()
    layers = smallmind.estimate_memory(
        path, backend="numpy", weights="per_layer", prefix_cache=False
    )
    with smallmind.load(
        path,
        exporters=[recorder],
        backend="numpy",
        max_memory_bytes=layers.total_bytes,
        memory_budget_mode="best_effort",
    ) as engine:
        assert engine.memory_plan.demand.weights == "per_layer"
        assert engine.generate("the", **GREEDY).token_ids == expected
        (step,) = engine.memory_plan.steps
    assert step.saved_bytes == whole.demand.weight_bytes - layers.demand.weight_bytes
    assert DegradeReason.WEIGHTS_PER_LAYER in {event.reason for event in recorder.of(Degraded)}


def test_a_tensor_larger_than_allowed_is_refused_in_every_mode(path: Path) -> None:
    largest = smallmind.estimate_memory(path, backend="numpy", weights="resident").demand
    for mode in ("none", "strict", "best_effort"):
        with pytest.raises(MemoryBudgetError, match="max_tensor_bytes") as caught:
            smallmind.load(
                path,
                exporters=(),
                backend="numpy",
                weights="resident",
                memory_budget_mode=mode,
                max_tensor_bytes=largest.largest_tensor_bytes - 1,
            )
        assert caught.value.details["tensor"] == largest.largest_tensor
    with pytest.raises(ConfigError, match="max_tensor_bytes"):
        smallmind.load(path, exporters=(), max_tensor_bytes=0)


def test_a_plan_over_a_limit_nobody_enforces_is_a_warning(path: Path) -> None:
    recorder = Recorder()
    with smallmind.load(path, exporters=[recorder], max_memory_bytes=1000) as engine:
        assert not engine.memory_plan.fits
        assert engine.generate("the", **GREEDY).usage.completion_tokens == 5
    (warning,) = (
        event
        for event in recorder.of(RuntimeLogEvent)
        if event.component == "memory" and event.level is LogLevel.WARN
    )
    assert warning.reason is ReasonCode.MEMORY_BUDGET_SOFT_LIMIT
    assert warning.properties["limit_bytes"] == 1000


def test_the_systems_limit_is_the_default_of_a_mode(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = MemoryLimit(LimitSource.CGROUP_V2, 3000, 1000, "/sys/fs/cgroup")
    monkeypatch.setattr("smallmind._load.effective_limit", lambda _most: small)
    with smallmind.load(path, exporters=()) as engine:
        assert engine.memory_plan.limit == small
    with pytest.raises(MemoryBudgetError, match=r"cgroup_v2 /sys/fs/cgroup\) has 1800 bytes"):
        smallmind.load(path, exporters=(), memory_budget_mode="strict")


def test_usage_is_told_when_a_load_ends_and_is_nothing_after_the_close(path: Path) -> None:
    recorder = Recorder()
    with tiny_engine(path.parent, exporters=[recorder]) as engine:
        expected = {usage.category: usage.current_bytes for usage in engine.memory}
        told = {event.category: event.current_bytes for event in recorder.of(MemoryUsage)}
    assert told == {category: size for category, size in expected.items() if size}
    last = {event.category: event.current_bytes for event in recorder.of(MemoryUsage)}
    assert set(last.values()) == {0}
