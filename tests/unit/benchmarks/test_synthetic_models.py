"""Made-up models are real GGUF files with sane weights, of the size that they claim."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import synthetic_models
from compared_models import model_figures
from gguf import GGMLQuantizationType
from random_blocks import FORMATS, WEIGHT_STD, random_blocks
from synthetic_models import LLAMA_1B, NAMES, RECIPES, TINY, synthetic_model, write_model

from smallmind import load
from smallmind_engine.gguf import GgufFile


@pytest.mark.parametrize("qtype", FORMATS, ids=lambda qtype: qtype.name)
def test_random_weights_are_finite_centred_and_as_large_as_trained_ones(
    qtype: GGMLQuantizationType,
) -> None:
    blocks = random_blocks(np.random.default_rng(1), 128, 2048, qtype)
    weights = gguf.quants.dequantize(blocks, qtype)
    assert weights.shape == (128, 2048)
    assert np.isfinite(weights).all()
    assert weights.std() == pytest.approx(WEIGHT_STD, rel=0.1)
    assert abs(weights.mean()) < WEIGHT_STD / 20


@pytest.mark.parametrize("recipe", RECIPES)
def test_smallmind_loads_a_made_up_model_and_generates(
    recipe: str, tiny_models: dict[str, Path]
) -> None:
    with load(tiny_models[recipe], exporters=(), backend="numpy") as engine:
        result = engine.generate("w1 w2", max_tokens=3, temperature=0.0)
    assert 1 <= result.usage.completion_tokens <= 3


@pytest.mark.parametrize("recipe", RECIPES)
def test_tensors_have_the_types_of_the_recipe(recipe: str, tiny_models: dict[str, Path]) -> None:
    with GgufFile.open(tiny_models[recipe]) as file:
        types = {name: tensor.qtype.name for name, tensor in file.tensors.items()}
    assert types["token_embd.weight"] == RECIPES[recipe].embedding.name
    assert types["blk.1.ffn_down.weight"] == RECIPES[recipe].matrices.name
    assert types["output_norm.weight"] == "F32"


def test_a_model_is_the_same_each_time_it_is_written(tiny_model: Path, tmp_path: Path) -> None:
    again = write_model(tmp_path / "again.gguf", TINY, RECIPES["q4_k"])
    assert again.read_bytes() == tiny_model.read_bytes()


def test_a_cached_model_is_written_once_and_leaves_no_unfinished_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic_models, "LLAMA_1B", TINY)
    path = synthetic_model("llama-1b-q8_0", tmp_path / "cache")
    written = path.stat().st_mtime_ns
    assert synthetic_model("llama-1b-q8_0", tmp_path / "cache") == path
    assert path.stat().st_mtime_ns == written
    assert list(path.parent.iterdir()) == [path]


def test_the_large_shape_has_a_thousand_million_parameters() -> None:
    parameters = sum(rows * columns for _, rows, columns in LLAMA_1B.matrices())
    assert parameters == pytest.approx(1e9, rel=0.05)
    assert NAMES == ("llama-1b-q4_0", "llama-1b-q8_0", "llama-1b-q4_k")


def test_a_step_reads_the_layers_and_the_tied_embedding_once(tiny_model: Path) -> None:
    figures = model_figures(tiny_model)
    layers = 2 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 256 * 512)
    norms = 2 * 2 * 256 * 4
    assert figures.layer_parameters == layers
    assert figures.bytes_per_step == layers * 144 // 256 + norms + 320 * 256 * 210 // 256
    assert figures.file_bytes == tiny_model.stat().st_size
