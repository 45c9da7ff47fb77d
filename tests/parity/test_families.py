"""Every family of models gives the logits of an independent reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reference_transformer import Reference
from smallmind_engine.kernels import (
    Chunk,
    LogitsWanted,
    ModelRunner,
    WeightsMode,
)
from tiny_models import FAMILIES, write_tiny_model
from tiny_runners import runner_for

IDS = [3 + (i * 37) % 256 for i in range(40)]


@pytest.fixture(scope="module", params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
    return str(request.param)


def run(runner: ModelRunner, pieces: list[list[int]]) -> np.ndarray:
    cache = runner.new_cache(sum(map(len, pieces)))
    rows = [
        runner.forward([Chunk(np.array(piece), cache, LogitsWanted.ALL)])[0] for piece in pieces
    ]
    return np.concatenate(rows)


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = request.param
    return write_tiny_model(tmp_path_factory.mktemp(name) / "tiny.gguf", FAMILIES[name])


def test_logits_are_those_of_the_float64_reference(family: Path, backend: str) -> None:
    expected = Reference(family).logits(IDS)
    got = run(runner_for(family, backend), [IDS])
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_pieces_through_the_cache_give_the_same_as_one_step(family: Path, backend: str) -> None:
    runner = runner_for(family, backend)
    whole = run(runner, [IDS])
    pieces = run(runner, [IDS[:7], IDS[7:20], *([token] for token in IDS[20:])])
    np.testing.assert_allclose(pieces, whole, atol=1e-4)


def test_weights_per_layer_give_the_same_bits_as_resident_ones(family: Path) -> None:
    resident = run(runner_for(family, "numpy"), [IDS])
    per_layer = run(runner_for(family, "numpy", WeightsMode.PER_LAYER), [IDS])
    np.testing.assert_array_equal(per_layer, resident)


def test_compiled_steps_give_the_same_bits_however_they_are_cut_and_shared_out(
    family: Path,
) -> None:
    pytest.importorskip("numba")
    one, three = (runner_for(family, "numba", threads=threads) for threads in (1, 3))
    whole = run(one, [IDS])
    np.testing.assert_array_equal(run(three, [IDS]), whole)
    pieces = [IDS[:7], IDS[7:20], *([token] for token in IDS[20:])]
    np.testing.assert_array_equal(run(three, pieces), whole)


def test_sequences_of_one_step_do_not_touch_each_other(family: Path, backend: str) -> None:
    runner = runner_for(family, backend)
    parts = [IDS[:13], IDS[13:20], IDS[20:]]
    caches = [runner.new_cache(len(part)) for part in parts]
    chunks = [
        Chunk(np.array(part), cache, LogitsWanted.ALL)
        for part, cache in zip(parts, caches, strict=True)
    ]
    for part, together in zip(parts, runner.forward(chunks), strict=True):
        np.testing.assert_allclose(together, run(runner, [part]), atol=1e-4)


def test_logits_are_those_of_llama_cpp(family: Path, backend: str) -> None:
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model = llama_cpp.Llama(str(family), n_ctx=64, logits_all=True, verbose=False)
    model.eval(IDS)
    got = run(runner_for(family, backend), [IDS])
    # llama.cpp keeps a 16-bit KV cache.
    np.testing.assert_allclose(got, model.scores[: len(IDS)], atol=0.05)
