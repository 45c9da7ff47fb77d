"""Rotations of compiled steps are known for every position that comes up, the first included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels.numba_backend.turns import Turns
from smallmind_engine.model import GgufWeights, transformer_spec
from tiny_models import FAMILIES, write_tiny_model


@pytest.mark.parametrize("positions", [1, 2, 1024, 1025])
def test_as_many_positions_are_rotated_as_are_asked_for(tmp_path: Path, positions: int) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", FAMILIES["llama"])
    file = GgufFile.open(path)
    turns = Turns(transformer_spec(file.metadata, GgufWeights(file))).up_to(positions)
    assert turns.shape[2] >= positions
    cos, sin = turns[0, :, :positions]
    np.testing.assert_allclose(cos**2 + sin**2, 1.0, rtol=1e-5)
    assert (cos[0] == 1.0).all()
    file.close()
