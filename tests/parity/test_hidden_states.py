"""Hidden states are what logits are made of, on every backend and beside any other wish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reference_transformer import Reference
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.kernels import (
    BestToken,
    Chunk,
    LogitsWanted,
    ModelRunner,
    OperationTime,
)
from smallmind_engine.telemetry.errors import OperationCancelledError
from tiny_models import FAMILIES, TinyModel, write_tiny_model
from tiny_runners import runner_for

IDS = [3 + (i * 37) % 256 for i in range(40)]
HIDDEN, ALL = LogitsWanted.HIDDEN, LogitsWanted.ALL


@pytest.fixture(params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
    return str(request.param)


def chunk_of(runner: ModelRunner, ids: list[int], wanted: LogitsWanted) -> Chunk:
    return Chunk(np.array(ids), runner.new_cache(len(ids)), wanted)


def reference_states(path: Path) -> np.ndarray:
    """The reference's logits with an output matrix that passes states through."""
    reference = Reference(path)
    width = reference.get("embedding_length")
    reference.tensors["output.weight"] = np.eye(width)
    reference.meta.pop(f"{reference.arch}.final_logit_softcapping", None)
    return reference.logits(IDS)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_states_are_those_of_the_float64_reference(
    tmp_path: Path, backend: str, family: str
) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", FAMILIES[family])
    runner = runner_for(path, backend)
    (states,) = runner.forward([chunk_of(runner, IDS, HIDDEN)])
    np.testing.assert_allclose(states, reference_states(path), atol=2e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_few_tokens_give_the_same_states_as_many(tmp_path: Path, threads: int) -> None:
    pytest.importorskip("numba")
    runner = runner_for(write_tiny_model(tmp_path / "tiny.gguf"), "numba", threads=threads)
    (whole,) = runner.forward([chunk_of(runner, IDS, HIDDEN)])
    cache = runner.new_cache(len(IDS))
    pieces = [
        runner.forward([Chunk(np.array(IDS[begin : begin + 3]), cache, HIDDEN)])[0]
        for begin in range(0, len(IDS), 3)
    ]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_one_step_can_give_states_and_logits(tmp_path: Path, backend: str) -> None:
    runner = runner_for(write_tiny_model(tmp_path / "tiny.gguf"), backend)
    wishes = [HIDDEN, ALL, LogitsWanted.NONE, HIDDEN, LogitsWanted.LAST, LogitsWanted.BEST]
    texts = [IDS[begin : begin + 9] for begin in range(len(wishes))]
    chunks = [chunk_of(runner, ids, w) for ids, w in zip(texts, wishes, strict=True)]
    together = runner.forward(chunks)
    assert [chunk.cache.length for chunk in chunks] == [9] * len(wishes)
    for ids, wanted, answer in zip(texts, wishes, together, strict=True):
        (alone,) = runner.forward([chunk_of(runner, ids, wanted)])
        if isinstance(alone, np.ndarray):
            np.testing.assert_allclose(answer, alone, atol=1e-4)
        else:
            assert answer is None or isinstance(answer, BestToken)
            assert (answer is None) == (alone is None)


def test_logits_after_states_are_those_of_an_unbroken_sequence(
    tmp_path: Path, backend: str
) -> None:
    runner = runner_for(write_tiny_model(tmp_path / "tiny.gguf"), backend)
    cache = runner.new_cache(len(IDS))
    runner.forward([Chunk(np.array(IDS[:-1]), cache, HIDDEN)])
    (after,) = runner.forward([Chunk(np.array(IDS[-1:]), cache, LogitsWanted.LAST)])
    (unbroken,) = runner.forward([chunk_of(runner, IDS, LogitsWanted.LAST)])
    np.testing.assert_allclose(after, unbroken, atol=1e-4)


def test_states_are_the_callers_to_keep(tmp_path: Path, backend: str) -> None:
    runner = runner_for(write_tiny_model(tmp_path / "tiny.gguf"), backend)
    (states,) = runner.forward([chunk_of(runner, IDS, HIDDEN)])
    kept = states.copy()
    runner.forward([chunk_of(runner, IDS[::-1], HIDDEN)])
    np.testing.assert_array_equal(states, kept)


def test_a_cancelled_step_leaves_the_caches_as_they_were(tmp_path: Path, backend: str) -> None:
    runner = runner_for(write_tiny_model(tmp_path / "tiny.gguf"), backend)
    token = CancellationToken()
    token.cancel()
    chunk = chunk_of(runner, IDS, HIDDEN)
    with pytest.raises(OperationCancelledError):
        runner.forward([chunk], limit=WorkLimit(token))
    assert chunk.cache.length == 0


def test_no_output_projection_is_told_of_where_there_is_none(tmp_path: Path, backend: str) -> None:
    runner = runner_for(write_tiny_model(tmp_path / "tiny.gguf", TinyModel()), backend)
    told: list[OperationTime] = []
    runner.forward([chunk_of(runner, IDS, HIDDEN)], on_operations=told.extend)
    assert told
    assert "output" not in {time.op for time in told}
    told.clear()
    runner.forward([chunk_of(runner, IDS, ALL)], on_operations=told.extend)
    assert [time.tokens for time in told if time.op == "output"] == [len(IDS)]
