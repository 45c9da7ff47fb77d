"""What steps take is known before a load: held against the buffers that there are then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from smallmind_engine.cache import KVType
from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels import (
    Chunk,
    LogitsWanted,
    PrepareRequest,
    ScratchRequest,
    TransformerSpec,
    WeightsMode,
    get_backend,
)
from smallmind_engine.model import GgufWeights, transformer_spec
from smallmind_engine.tokenizers import tokenizer_bytes
from tiny_models import FAMILIES, write_tiny_model

CONTEXT = 2048
WITHIN = 0.03


def opened(folder: Path, family: str) -> tuple[GgufFile, GgufWeights, TransformerSpec]:
    file = GgufFile.open(write_tiny_model(folder / "tiny.gguf", FAMILIES[family]))
    source = GgufWeights(file)
    return file, source, transformer_spec(file.metadata, source, CONTEXT)


def wanted(mode: WeightsMode = WeightsMode.RESIDENT, sequences: int = 1) -> ScratchRequest:
    return ScratchRequest(mode=mode, context_length=CONTEXT, sequences=sequences, threads=2)


@pytest.mark.parametrize("family", ["llama", "gemma3", "phi3", "gpt2"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_buffers_of_compiled_steps_are_as_large_as_foretold(
    tmp_path: Path, family: str, threads: int
) -> None:
    pytest.importorskip("numba")
    from smallmind_engine.kernels.numba_backend.buffers import StepBuffers, step_capacities
    from smallmind_engine.kernels.numba_backend.footprint import _step_bytes

    file, _, spec = opened(tmp_path, family)
    for capacity in step_capacities(512):
        actual = StepBuffers(spec, capacity, threads).nbytes
        assert _step_bytes(spec, capacity, threads) == pytest.approx(actual, rel=0.1, abs=20_000)
    file.close()


def test_steps_have_buffers_of_few_sizes_and_none_larger_than_needed() -> None:
    pytest.importorskip("numba")
    from smallmind_engine.kernels.numba_backend.buffers import step_capacities

    assert step_capacities(512) == (4, 16, 64, 256, 512)
    assert step_capacities(3) == (4,)


@pytest.mark.parametrize("family", ["llama", "gemma3", "phi3", "gpt2"])
def test_the_workspace_of_the_reference_is_as_large_as_foretold(
    tmp_path: Path, family: str
) -> None:
    file, source, spec = opened(tmp_path, family)
    backend = get_backend("numpy")
    foretold = backend.scratch_bytes(spec, wanted())
    with file:
        runner = backend.prepare(spec, source, PrepareRequest(mode=WeightsMode.RESIDENT))
        positions = min(CONTEXT, spec.context_length)
        cache = runner.new_cache(positions)
        for begin in range(0, positions, 512):
            ids = np.arange(begin, min(begin + 512, positions)) % 250
            runner.forward([Chunk(ids, cache, LogitsWanted.LAST)])
        logits_and_turns = foretold - runner.scratch_bytes
        assert logits_and_turns > 0
        if positions == CONTEXT:
            assert logits_and_turns < 4 * (spec.vocab_size + 3 * CONTEXT * spec.head_dim) + 99_999
        runner.close()


def test_more_sequences_take_more_and_per_layer_weights_take_a_slab(tmp_path: Path) -> None:
    file, _, spec = opened(tmp_path, "llama")
    backend = get_backend("numpy")
    one = backend.scratch_bytes(spec, wanted())
    assert backend.scratch_bytes(spec, wanted(sequences=3)) - one == 2 * 4 * spec.vocab_size
    layers = backend.scratch_bytes(spec, wanted(WeightsMode.PER_LAYER))
    assert layers - one == 4 * spec.vocab_size * spec.width
    file.close()


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_the_largest_tensor_is_one_of_the_models(tmp_path: Path, name: str) -> None:
    if name == "numba":
        pytest.importorskip("numba")
    file, source, spec = opened(tmp_path, "llama")
    backend = get_backend(name)
    tensor, size = backend.largest_tensor(spec, source, WeightsMode.RESIDENT)
    assert tensor in file.tensors
    assert 0 < size <= backend.weight_bytes(spec, source, WeightsMode.RESIDENT)
    assert backend.kv_types[0] in set(KVType)
    file.close()


def test_a_tokenizer_takes_more_the_more_entries_it_has() -> None:
    def entries(count: int) -> dict[str, object]:
        return {"tokenizer.ggml.tokens": [f"t{number}" for number in range(count)]}

    sizes = [tokenizer_bytes(entries(count)) for count in (0, 100, 10_000, 100_000)]
    assert sizes == sorted(sizes)
    assert 150 * 100_000 < sizes[-1] < 300 * 100_000
    with_scores = {**entries(1000), "tokenizer.ggml.scores": np.zeros(1000, np.float32)}
    assert tokenizer_bytes(with_scores) > tokenizer_bytes(entries(1000))
