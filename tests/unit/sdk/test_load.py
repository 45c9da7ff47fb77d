"""Loading: exporters by name, options one by one, loggers and metrics attached."""

from __future__ import annotations

from pathlib import Path

import pytest

import smallmind
from engines import Recorder, tiny_engine
from smallmind import EngineOptions
from smallmind_engine.telemetry import (
    Degraded,
    DegradeReason,
    InMemoryRuntimeMetrics,
    ModelLoadEnded,
    ModelLoadStarted,
    RequestStatus,
)
from smallmind_engine.telemetry.errors import (
    ConfigError,
    ExporterError,
    RegistryError,
    UnsupportedModelError,
)
from tiny_models import write_tiny_model

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 5}


def test_an_exporter_by_name_is_made_attached_and_closed(tmp_path: Path) -> None:
    with tiny_engine(tmp_path, exporters=["memory"]) as engine:
        engine.generate("the", **GREEDY)
        memory = engine.exporter("memory")
        memory.assert_ordered()
    assert len(memory) > 5


def test_the_environment_names_exporters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALLMIND_EXPORTERS", " memory , prometheus,")
    with tiny_engine(tmp_path, exporters=None) as engine:
        assert {health.name for health in engine.exporter_health} == {"memory", "prometheus"}
    with tiny_engine(tmp_path, exporters=()) as engine:
        assert engine.exporter_health == ()


def test_an_unknown_exporter_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ExporterError, match=r"memory.*prometheus"):
        tiny_engine(tmp_path, exporters=["carrier-pigeon"])
    with tiny_engine(tmp_path) as engine, pytest.raises(ExporterError, match="none"):
        engine.exporter("memory")


def test_the_callers_own_exporter_stays_open(tmp_path: Path) -> None:
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        assert engine.exporter("recorder") is recorder
        assert engine.flush()["recorder"].complete
    before = len(recorder.events)
    with tiny_engine(tmp_path, exporters=[recorder]):
        assert len(recorder.events) > before


def test_metrics_agree_with_the_results(tmp_path: Path) -> None:
    metrics = InMemoryRuntimeMetrics()
    with tiny_engine(tmp_path, metrics=metrics) as engine:
        results = [engine.generate("the", **GREEDY) for _ in range(3)]
    snapshot = metrics.snapshot()
    assert snapshot.completion_tokens == sum(r.usage.completion_tokens for r in results)
    assert snapshot.prompt_tokens == sum(r.usage.prompt_tokens for r in results)


def test_what_is_known_of_the_model_is_published(tmp_path: Path) -> None:
    recorder = Recorder()
    with tiny_engine(tmp_path, exporters=[recorder], name="my-model") as engine:
        model = engine.model
    (started,) = recorder.of(ModelLoadStarted)
    (ended,) = recorder.of(ModelLoadEnded)
    assert started.model == ended.model == "my-model"
    assert ended.status is RequestStatus.COMPLETED
    assert (ended.architecture, ended.backend) == ("llama", engine.model.runner.backend)
    assert ended.fingerprint == model.fingerprint
    assert started.correlation == ended.correlation
    assert sum(seconds for _, seconds in ended.phases) <= ended.duration_s


def test_a_load_that_fails_is_published_with_its_reason(tmp_path: Path) -> None:
    recorder, path = Recorder(), tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(3))
    with pytest.raises(smallmind.SmallMindError) as caught:
        smallmind.load(path, exporters=[recorder])
    (ended,) = recorder.of(ModelLoadEnded)
    assert (ended.status, ended.reason) == (RequestStatus.FAILED, caught.value.reason)


def test_an_unsupported_architecture_is_refused_by_name_with_those_that_work(
    tmp_path: Path,
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"llama", b"lamma"))
    with pytest.raises(UnsupportedModelError, match=r"'lamma'.*llama, qwen2"):
        smallmind.load(path, exporters=())


def test_a_name_that_is_neither_file_nor_model_is_refused() -> None:
    with pytest.raises(RegistryError):
        smallmind.load("no-such-model", exporters=())


def test_weights_that_do_not_fit_are_dequantised_per_layer_and_it_is_said(
    tmp_path: Path,
) -> None:
    with tiny_engine(tmp_path, backend="numpy") as engine:
        demand = engine.memory_plan.demand
        resident = demand.fixed_bytes - demand.prefix_store_bytes
        expected = engine.generate("the", **GREEDY).token_ids
    recorder = Recorder()
    with tiny_engine(
        tmp_path,
        exporters=[recorder],
        backend="numpy",
        max_memory_bytes=resident - 1,
        memory_budget_mode="strict",
    ) as engine:
        assert engine.model.runner.weights_mode == "per_layer"
        assert engine.generate("the", **GREEDY).token_ids == expected
    assert DegradeReason.WEIGHTS_PER_LAYER in {e.reason for e in recorder.of(Degraded)}


def test_options_may_be_given_whole_or_one_by_one(tmp_path: Path) -> None:
    options = EngineOptions(context_length=32, max_queue_depth=3)
    with tiny_engine(tmp_path, options=options, context_length=16) as engine:
        assert engine.model.context_length == 16
    with pytest.raises(ConfigError, match="no_such"):
        tiny_engine(tmp_path, no_such=1)
    with tiny_engine(tmp_path) as engine, pytest.raises(ConfigError, match="temprature"):
        engine.generate("x", temprature=1)


def test_progress_tells_phases_and_bytes(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    tiny_engine(tmp_path, on_progress=lambda *step: seen.append(step)).close()
    assert {"read", "weights"} <= {phase for phase, _, _ in seen}
    assert all(0 <= done <= total for _, done, total in seen)


def test_the_callers_trace_becomes_the_parent(tmp_path: Path) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with tiny_engine(tmp_path) as engine:
        ids = engine.generate("the", traceparent=parent, request_id="r-1", **GREEDY).correlation
    assert (ids.traceparent, ids.request_id, ids.has_parent) == (parent, "r-1", True)
