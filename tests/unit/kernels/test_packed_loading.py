"""Loading packed weights: packed the first time, mapped the second, and right both times."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

pytest.importorskip("numba")

from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels.numba_backend import packed_model
from smallmind_engine.kernels.numba_backend.matrix_plan import (
    MatrixPlan,
    arena_bytes,
    plan_matrices,
)
from smallmind_engine.kernels.numba_backend.packed_files import (
    PackedOrigin,
    load_or_pack,
    packed_file,
)
from smallmind_engine.kernels.packing import unpack_matrix
from smallmind_engine.model.architectures import transformer_spec
from smallmind_engine.model.weight_source import GgufWeights
from smallmind_engine.telemetry import OperationCancelledError
from tiny_models import TinyModel, write_tiny_model

FINGERPRINT = "0123456789abcdef"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GgufWeights]:
    """Of a model whose query and key rows are reordered."""
    model = TinyModel("llama", tied=False, qtype=GGMLQuantizationType.Q8_0)
    with GgufFile.open(write_tiny_model(tmp_path_factory.mktemp("m") / "m.gguf", model)) as file:
        yield GgufWeights(file)


@pytest.fixture(scope="module")
def plans(weights: GgufWeights) -> tuple[MatrixPlan, ...]:
    return plan_matrices(transformer_spec(weights.file.metadata, weights, None), weights)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights"


def test_the_first_load_packs_and_the_second_maps_the_same(
    plans: tuple[MatrixPlan, ...], weights: GgufWeights, folder: Path
) -> None:
    first, packed = load_or_pack(plans, weights, FINGERPRINT, folder, NO_LIMIT, None)
    seen: list[tuple[int, int]] = []
    second, mapped = load_or_pack(
        plans, weights, FINGERPRINT, folder, NO_LIMIT, lambda *told: seen.append(told)
    )
    assert (packed.is_mapped, mapped.is_mapped) == (False, True)
    assert packed.path == mapped.path == packed_file(plans, FINGERPRINT, folder)
    assert packed.not_saved is None
    np.testing.assert_array_equal(first, second)
    assert seen == [(len(first), len(first))]


def test_packed_weights_are_those_of_the_file_in_the_order_of_the_plan(
    plans: tuple[MatrixPlan, ...], weights: GgufWeights
) -> None:
    arena, _ = load_or_pack(plans, weights, FINGERPRINT, None, NO_LIMIT, None)
    for plan in plans:
        stored = arena[plan.offset : plan.offset + plan.n_bytes]
        got = unpack_matrix(stored, plan.layout, plan.rows, plan.columns)
        rows = slice(plan.first_row, plan.first_row + plan.rows)
        expected = weights.floats(plan.tensor, rows=rows)
        np.testing.assert_array_equal(got, expected if plan.order is None else expected[plan.order])


def test_a_damaged_file_is_packed_anew_and_replaced(
    plans: tuple[MatrixPlan, ...], weights: GgufWeights, folder: Path
) -> None:
    first, origin = load_or_pack(plans, weights, FINGERPRINT, folder, NO_LIMIT, None)
    assert origin.path is not None
    os.truncate(origin.path, 100)
    again, damaged = load_or_pack(plans, weights, FINGERPRINT, folder, NO_LIMIT, None)
    _, mended = load_or_pack(plans, weights, FINGERPRINT, folder, NO_LIMIT, None)
    assert (damaged.is_mapped, mended.is_mapped) == (False, True)
    np.testing.assert_array_equal(first, again)


def test_without_a_folder_weights_are_packed_only(
    plans: tuple[MatrixPlan, ...], weights: GgufWeights
) -> None:
    arena, origin = load_or_pack(plans, weights, FINGERPRINT, None, NO_LIMIT, None)
    assert len(arena) == arena_bytes(plans)
    assert origin == PackedOrigin(is_mapped=False)


def test_weights_that_cannot_be_saved_are_packed_all_the_same(
    plans: tuple[MatrixPlan, ...], weights: GgufWeights, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    arena, origin = load_or_pack(plans, weights, FINGERPRINT, tmp_path / "file", NO_LIMIT, None)
    assert arena.any()
    assert origin.path is None
    assert origin.not_saved is not None


def test_packing_tells_progress_up_to_the_end_and_gives_back_what_it_read(
    plans: tuple[MatrixPlan, ...], weights: GgufWeights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_model, "_RELEASE_BYTES", 1)
    seen: list[int] = []
    released: list[str] = []
    monkeypatch.setattr(GgufFile, "release", lambda _, name: released.append(name))
    total = arena_bytes(plans)
    load_or_pack(plans, weights, FINGERPRINT, None, NO_LIMIT, lambda done, _: seen.append(done))
    assert seen == sorted(seen)
    assert total - 64 < seen[-1] <= total
    assert set(released) == {plan.tensor for plan in plans}


def test_cancelled_packing_leaves_nothing(
    plans: tuple[MatrixPlan, ...], weights: GgufWeights, folder: Path
) -> None:
    token = CancellationToken()
    with pytest.raises(OperationCancelledError):
        load_or_pack(
            plans, weights, FINGERPRINT, folder, WorkLimit(token), lambda *_: token.cancel()
        )
    assert not folder.exists()


MEASURED = """
import sys
from pathlib import Path
from smallmind_engine.control import NO_LIMIT
from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels.numba_backend.matrix_plan import arena_bytes, plan_matrices
from smallmind_engine.kernels.numba_backend.packed_files import load_or_pack
from smallmind_engine.model.architectures import transformer_spec
from smallmind_engine.model.weight_source import GgufWeights

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))

source = GgufWeights(GgufFile.open(sys.argv[1]))
plans = plan_matrices(transformer_spec(source.file.metadata, source, None), source)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = resident("VmRSS")
arena, _ = load_or_pack(plans, source, "", None, NO_LIMIT, None)
print((resident("VmHWM") - before) / arena_bytes(plans))
"""


@pytest.mark.model
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_packing_takes_little_more_memory_than_the_packed_weights(gemma3_path: Path) -> None:
    """Three quarters of this model are one tensor."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(gemma3_path)],
        capture_output=True, check=True, timeout=120, text=True,
    )  # fmt: skip
    assert float(done.stdout) < 1.25
