"""Worker processes answer over their pipes; smallmind runs in them with its NumPy backend."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from compare_cases import CASES, LLAMA_CPP, SMALLMIND, Case, chosen, prompt_ids
from compare_child import THREAD_VARIABLES, Child, ChildFailedError, environment
from compare_rounds import Settings, compare_model
from greedy_step import greedy_step

from smallmind import load
from smallmind_engine.kernels import Chunk, LogitsWanted

HAS_LLAMA_CPP = importlib.util.find_spec("llama_cpp") is not None
ONE, MANY = Case(1, 6, 4), Case(3, 5, 2)


@pytest.fixture
def child() -> Iterator[Child]:
    with Child(SMALLMIND, threads=1) as started:
        yield started


@pytest.fixture
def no_llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that stands before llama-cpp-python, and cannot be imported."""
    module = tmp_path / "llama_cpp.py"
    module.write_text("raise ImportError('left out')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return module


def loaded(child: Child, path: Path) -> dict:
    return child.ask("load", path=str(path), threads=1, backend="numpy", capacity=ONE.capacity)


def greedy_tokens(path: Path, prompt: np.ndarray, steps: int) -> list[int]:
    """The same by the plainest use of the engine."""
    with load(path, exporters=(), backend="numpy") as engine:
        cache = engine.model.runner.new_cache(len(prompt) + steps)
        tokens = []
        fed = prompt
        for _ in range(steps + 1):
            (logits,) = engine.model.runner.forward([Chunk(fed, cache, LogitsWanted.LAST)])
            assert logits is not None
            tokens.append(int(logits.argmax()))
            fed = np.array(tokens[-1:])
        return tokens


def test_a_worker_loads_measures_and_closes(child: Child, tiny_model: Path) -> None:
    reply = loaded(child, tiny_model)
    assert reply["about"]["backend"] == "numpy"
    assert 0 < reply["load_s"] < reply["first_token_s"]
    assert reply["peak_rss_bytes"] is None or reply["peak_rss_bytes"] >= reply["rss_bytes"] > 0

    measured = child.ask("measure", case=ONE.as_json())
    assert measured["prefill_s"] > 0
    assert measured["decode_s"] > 0
    assert measured["tokens"] == greedy_tokens(tiny_model, prompt_ids(0, 6, 320), 4)
    child.ask("close")


def test_each_measurement_of_a_case_does_the_same_work(child: Child, tiny_model: Path) -> None:
    loaded(child, tiny_model)
    for case in (ONE, MANY):
        first, again = (child.ask("measure", case=case.as_json())["tokens"] for _ in range(2))
        assert first == again


def test_the_prompts_of_concurrent_sequences_are_not_measured(
    child: Child, tiny_model: Path
) -> None:
    loaded(child, tiny_model)
    measured = child.ask("measure", case=MANY.as_json())
    assert measured["prefill_s"] is None
    assert measured["tokens"] == greedy_tokens(tiny_model, prompt_ids(0, 5, 320), 2)


def test_a_case_without_steps_measures_the_prompt_only(child: Child, tiny_model: Path) -> None:
    loaded(child, tiny_model)
    measured = child.ask("measure", case=Case(1, 6, 0).as_json())
    assert measured["decode_s"] is None
    assert len(measured["tokens"]) == 1


def test_an_error_in_the_worker_is_raised_by_the_parent(child: Child, tmp_path: Path) -> None:
    with pytest.raises(ChildFailedError, match="nothing is loaded"):
        child.ask("measure", case=ONE.as_json())
    with pytest.raises(ChildFailedError, match=r"none\.gguf"):
        loaded(child, tmp_path / "none.gguf")


def test_a_worker_that_is_gone_is_told_with_its_exit_code(
    no_llama_cpp: Path, tiny_model: Path
) -> None:
    no_llama_cpp.write_text("import os; os._exit(3)")
    with (
        Child(LLAMA_CPP, threads=1) as child,
        pytest.raises(ChildFailedError, match="ended with 3"),
    ):
        loaded(child, tiny_model)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the platform does not tell")
def test_a_waiting_worker_takes_no_processor_time(child: Child, tiny_model: Path) -> None:
    loaded(child, tiny_model)
    child.ask("measure", case=ONE.as_json())
    before = child.cpu_s()
    time.sleep(0.2)  # the time that is measured
    after = child.cpu_s()
    assert before is not None
    assert after is not None
    assert after - before <= 0.02


def settings(*cases: Case, repeat: int = 1) -> Settings:
    return Settings(threads=1, repeat=repeat, backend="numpy", quick=True, cases=cases)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's limits have tests of their own, and nothing here is timed."""
    monkeypatch.setattr("compare_rounds.SETTLE_S", 0.0)
    monkeypatch.setattr("compare_rounds._limits", lambda _: {"read_bytes_per_s": 1.0})


@pytest.mark.usefixtures("no_llama_cpp", "limits")
def test_without_llama_cpp_smallmind_is_measured_alone(tiny_model: Path) -> None:
    told: list[str] = []
    found = compare_model("tiny", tiny_model, settings(ONE, MANY, repeat=2), told.append)
    assert found["engines"][LLAMA_CPP] == {"missing": "left out"}
    assert [(each["round"], each["case"], each["engine"]) for each in found["samples"]] == [
        (number, case.name, SMALLMIND) for number in (1, 2) for case in (ONE, MANY)
    ]
    assert len(found["limits"]) == 2
    assert found["file"] == "q4_k.gguf"
    assert told[-1] == "tiny: round 2 of 2"
    json.dumps(found)


@pytest.mark.usefixtures("limits")
def test_a_llama_cpp_that_crashes_while_loading_counts_as_missing(
    no_llama_cpp: Path, tiny_model: Path
) -> None:
    no_llama_cpp.write_text("import os; os.abort()")
    found = compare_model("tiny", tiny_model, settings(ONE), lambda _: None)
    assert "its process ended with" in found["engines"][LLAMA_CPP]["missing"]


@pytest.mark.usefixtures("no_llama_cpp", "limits")
def test_a_long_case_runs_in_fewer_rounds(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compare_rounds.LONG_CASE_S", 0.0)
    found = compare_model("tiny", tiny_model, settings(ONE, repeat=5), lambda _: None)
    assert [each["round"] for each in found["samples"]] == [1, 2, 3]


@pytest.mark.skipif(not HAS_LLAMA_CPP, reason="llama-cpp-python is not installed")
@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("recipe", ["q4_0", "q8_0", "q4_k"])
def test_both_engines_take_turns_and_decode_the_same_tokens(
    recipe: str, tiny_models: dict[str, Path]
) -> None:
    found = compare_model("tiny", tiny_models[recipe], settings(ONE, MANY, repeat=2), print)
    by_case = {
        (each["round"], each["case"], each["engine"]): each["tokens"] for each in found["samples"]
    }
    assert [engine for *_, engine in by_case] == 2 * [LLAMA_CPP, SMALLMIND] + 2 * [
        SMALLMIND,
        LLAMA_CPP,
    ]
    for case in (ONE, MANY):
        assert by_case[1, case.name, SMALLMIND] == by_case[1, case.name, LLAMA_CPP]


def test_prompts_are_the_same_each_time_and_differ_by_sequence() -> None:
    first, again, other = (prompt_ids(number, 32, 1000) for number in (0, 0, 1))
    assert first.tolist() == again.tolist() != other.tolist()


def test_cases_are_chosen_by_name() -> None:
    assert chosen(None, quick=False) == CASES
    assert chosen(["16x128", "1x421"], quick=False) == (Case(1, 421, 0), Case(16, 128, 32))
    with pytest.raises(SystemExit, match="no case 2x2; known: 1x16"):
        chosen(["2x2"], quick=False)


def test_a_greedy_step_takes_the_likeliest_token_of_each_chunk(tiny_model: Path) -> None:
    with load(tiny_model, exporters=(), backend="numpy") as engine:
        runner = engine.model.runner

        def chunks() -> list[Chunk]:
            prompts = [prompt_ids(number, 4, 320) for number in range(2)]
            return [Chunk(each, runner.new_cache(4), LogitsWanted.LAST) for each in prompts]

        expected = [int(np.argmax(logits)) for logits in runner.forward(chunks())]
        assert greedy_step(runner, chunks()) == expected


def test_the_number_of_threads_is_in_the_environment_of_the_worker() -> None:
    made = environment(3)
    assert {made[name] for name in THREAD_VARIABLES} == {"3"}
    assert made["PATH"] == os.environ["PATH"]
