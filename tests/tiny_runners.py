"""Runners of model files, as backends prepare them, without an engine around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smallmind_engine.cache import KVType, PagedKVCache
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

if TYPE_CHECKING:
    from smallmind_engine.kernels.numba_backend.runner import NumbaRunner


def runner_for(
    path: Path,
    backend: str,
    mode: WeightsMode = WeightsMode.RESIDENT,
    *,
    kv_type: KVType = KVType.F32,
    threads: int = 2,
) -> ModelRunner:
    """The runner of a file."""
    source = GgufWeights(file := GgufFile.open(path))
    spec = transformer_spec(file.metadata, source)
    request = PrepareRequest(mode=mode, kv_type=kv_type, threads=threads)
    return get_backend(backend).prepare(spec, source, request)


def numba_runner_for(path: Path, kv_type: KVType = KVType.F32, threads: int = 2) -> NumbaRunner:
    """The runner of compiled kernels for a file; Numba must be there."""
    from smallmind_engine.kernels.numba_backend.runner import NumbaRunner

    runner = runner_for(path, "numba", kv_type=kv_type, threads=threads)
    assert isinstance(runner, NumbaRunner)
    return runner


def filled_caches(runner: NumbaRunner, lengths: Sequence[int], room: int = 4) -> list[PagedKVCache]:
    """Of sequences of such lengths, with room for more tokens."""
    caches = []
    for length in lengths:
        cache = runner.new_cache(length + room)
        assert isinstance(cache, PagedKVCache)
        runner.forward([Chunk(np.arange(length) % 200, cache, LogitsWanted.NONE)])
        caches.append(cache)
    return caches
