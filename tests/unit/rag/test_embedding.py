"""The embedder without a model, and what every embedder's vectors go through."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from smallmind.rag import HashingEmbedder
from smallmind.rag._embedding import normalized
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.telemetry import OperationCancelledError
from smallmind_engine.telemetry.errors import ConfigError

TEXTS = ["The kernels are compiled.", "Compiling a kernel", "Bread and butter", ""]
VECTOR = [0, 0, 0, -0.16, 0.641, 0, 0, 0.48, 0.16, -0.16, -0.16, -0.16, -0.32, 0, -0.16, 0.32]
PROGRAM = f"""
from smallmind.rag import HashingEmbedder
print(HashingEmbedder(64).embed({TEXTS!r}).round(4).tolist())
"""


def test_vectors_are_unit_float32_rows():
    vectors = HashingEmbedder(64).embed(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((4, 64), np.float32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0])


def test_related_spellings_are_nearer_than_other_words():
    a, b, c, _ = HashingEmbedder().embed(TEXTS)
    assert a @ b > 0.3
    assert abs(a @ c) < 0.1


@pytest.mark.parametrize("seed", ["0", "1"])
def test_vectors_are_the_same_in_every_process(seed):
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == str(HashingEmbedder(64).embed(TEXTS).round(4).tolist())


def test_vectors_are_those_of_the_first_version():
    """Whatever changes them must change the identity too, or old indexes go wrong silently."""
    embedder = HashingEmbedder(16)
    (vector,) = embedder.embed(["kernel"])
    assert embedder.identity == "hashing-v1:16"
    assert np.allclose(vector, VECTOR, atol=1e-3)


def test_embedding_can_be_cancelled():
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        HashingEmbedder().embed(TEXTS, limit=WorkLimit(token))


def test_too_few_places_are_refused():
    with pytest.raises(ConfigError, match="at least 16"):
        HashingEmbedder(8)


def test_rows_of_zeros_stay_so():
    rows = normalized(np.array([[3.0, 4.0], [0.0, 0.0]]))
    assert np.allclose(rows, [[0.6, 0.8], [0.0, 0.0]])
