"""Shares of work: each piece is done once, by whatever number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quant

from smallmind_engine.kernels import BestToken, Chunk, LogitsWanted
from tiny_models import TinyModel, write_tiny_model
from tiny_runners import filled_caches, numba_runner_for

pytest.importorskip("numba")

from smallmind_engine.kernels.numba_backend.records import COUNTER_WORDS
from smallmind_engine.kernels.numba_backend.runner import NumbaRunner

LENGTHS = (3, 70, 16, 65, 5, 131, 64)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = TinyModel(qtype=Quant.Q8_0)
    return write_tiny_model(tmp_path_factory.mktemp("shares") / "tiny.gguf", model)


def steps(runner: NumbaRunner, wanted: LogitsWanted) -> list[object]:
    """What a step of one sequence answers, and two of all of them."""
    caches = filled_caches(runner, LENGTHS)
    answers: list[object] = []
    for turn in (1, len(caches), len(caches)):
        chunks = [Chunk(np.array([5]), cache, wanted) for cache in caches[:turn]]
        answers += runner.forward(chunks)
    return answers


@pytest.mark.parametrize("threads", [2, 3, COUNTER_WORDS, COUNTER_WORDS + 3])
def test_every_number_of_threads_answers_the_same(path: Path, threads: int) -> None:
    alone, together = (numba_runner_for(path, threads=count) for count in (1, threads))
    expected, got = (steps(runner, LogitsWanted.LAST) for runner in (alone, together))
    for first, second in zip(expected, got, strict=True):
        np.testing.assert_array_equal(np.asarray(second), np.asarray(first))
    best = steps(together, LogitsWanted.BEST)
    ids = [b.token_id if isinstance(b, BestToken) else int(np.argmax(np.asarray(b))) for b in best]
    assert ids == [int(np.argmax(np.asarray(row))) for row in expected]
