"""A decode loop allocates nothing that grows, and next to nothing at all: buffers are pooled."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels import (
    Chunk,
    LogitsWanted,
    ModelRunner,
    PrepareRequest,
    WeightsMode,
    get_backend,
)
from smallmind_engine.model import GgufWeights, transformer_spec
from tiny_models import FAMILIES, write_tiny_model

WARM_UP, STEPS = 20, 200
CAPACITY = 256
KEPT_BYTES = 6_000
"""What may be left over after all steps: scores grow by some bytes with each position."""

STEP_BYTES = 40_000
"""What a step may hold for a moment, beside its logits: views, and small arrays of positions."""


def run_steps(
    tmp_path: Path, backend: str, observe: Callable[[ModelRunner, Callable[[], None]], None]
) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    with GgufFile.open(write_tiny_model(tmp_path / "tiny.gguf", FAMILIES["llama"])) as file:
        source = GgufWeights(file)
        spec = transformer_spec(file.metadata, source)
        runner = get_backend(backend).prepare(
            spec, source, PrepareRequest(mode=WeightsMode.RESIDENT, threads=1)
        )
        cache = runner.new_cache(CAPACITY)
        token = np.array([5])

        def step() -> None:
            runner.forward([Chunk(token, cache, LogitsWanted.LAST)])

        for _ in range(WARM_UP):
            step()
        observe(runner, step)
        runner.close()


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_decoding_allocates_next_to_nothing_and_keeps_none_of_it(
    tmp_path: Path, backend: str
) -> None:
    def observe(runner: ModelRunner, step: Callable[[], None]) -> None:
        scratch = runner.scratch_bytes
        tracemalloc.start()
        try:
            step()
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for _ in range(STEPS):
                step()
            _, peak = tracemalloc.get_traced_memory()
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before <= KEPT_BYTES
        assert peak - before <= STEP_BYTES
        assert runner.scratch_bytes == scratch

    run_steps(tmp_path, backend, observe)
