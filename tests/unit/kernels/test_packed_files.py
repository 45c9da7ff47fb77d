"""Packed weights on disk: found again, never trusted blindly, and never in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType

pytest.importorskip("numba")

from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels.numba_backend import packed_files
from smallmind_engine.kernels.numba_backend.matrix_plan import (
    MatrixPlan,
    plan_matrices,
)
from smallmind_engine.kernels.numba_backend.packed_files import (
    DATA_OFFSET,
    default_directory,
    map_arena,
    packed_file,
    remove_unused,
    save_arena,
)
from smallmind_engine.kernels.packing import SPLIT_Q8_0
from smallmind_engine.model.architectures import transformer_spec
from smallmind_engine.model.weight_source import GgufWeights
from smallmind_engine.telemetry import OperationCancelledError
from tiny_models import TinyModel, write_tiny_model

FINGERPRINT = "0123456789abcdef"
SIZE = 1_000_000


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


def random_arena(size: int = SIZE, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


@pytest.fixture
def saved(folder: Path) -> Path:
    path = folder / "key.packed"
    assert save_arena(path, random_arena(), NO_LIMIT) is None
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- the name -------------------------------------------------------------------------------------


def test_the_folder_lies_below_the_cache_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SMALLMIND_CACHE_DIR", str(tmp_path))
    assert default_directory() == tmp_path / "weights"


def test_without_a_home_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_files, "cache_root", lambda: None)
    assert default_directory() is None


def test_the_same_model_and_plan_have_the_same_name(
    plans: tuple[MatrixPlan, ...], weights: GgufWeights, tmp_path: Path
) -> None:
    again = plan_matrices(transformer_spec(weights.file.metadata, weights, None), weights)
    first = packed_file(plans, FINGERPRINT, tmp_path)
    assert first == packed_file(again, FINGERPRINT, tmp_path)
    assert first.parent == tmp_path


@pytest.mark.parametrize(
    "change",
    [
        {"tensor": "another.weight"},
        {"first_row": 16},
        {"rows": 1},
        {"columns": 96},
        {"layout": SPLIT_Q8_0},
        {"order": None},
        {"offset": 64},
        {"n_bytes": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_in_a_plan_changes_the_name(
    plans: tuple[MatrixPlan, ...], tmp_path: Path, change: dict[str, Any]
) -> None:
    assert plans[0].order is not None
    changed = (plans[0]._replace(**change), *plans[1:])
    assert packed_file(changed, FINGERPRINT, tmp_path) != packed_file(plans, FINGERPRINT, tmp_path)


def test_another_order_of_rows_is_another_name(
    plans: tuple[MatrixPlan, ...], tmp_path: Path
) -> None:
    assert plans[0].order is not None
    changed = (plans[0]._replace(order=plans[0].order[::-1]), *plans[1:])
    assert packed_file(changed, FINGERPRINT, tmp_path) != packed_file(plans, FINGERPRINT, tmp_path)


def test_another_model_or_format_is_another_name(
    plans: tuple[MatrixPlan, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {packed_file(plans, FINGERPRINT, tmp_path), packed_file(plans, "other", tmp_path)}
    monkeypatch.setattr(packed_files, "FORMAT_VERSION", 99)
    found.add(packed_file(plans, FINGERPRINT, tmp_path))
    assert len(found) == 3


# -- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 4096, SIZE, (1 << 24) + 64])
def test_what_was_saved_is_mapped(folder: Path, size: int) -> None:
    arena = random_arena(size)
    assert save_arena(folder / "key.packed", arena, NO_LIMIT) is None
    mapped = map_arena(folder / "key.packed", size)
    assert mapped is not None
    np.testing.assert_array_equal(mapped, arena)
    assert mapped.ctypes.data % 64 == 0
    assert names(folder) == ["key.packed"]


def test_mapped_weights_cannot_be_written_to(saved: Path) -> None:
    mapped = map_arena(saved, SIZE)
    assert mapped is not None
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps mapped files")
def test_mapped_weights_outlive_their_file(saved: Path) -> None:
    mapped = map_arena(saved, SIZE)
    assert save_arena(saved, random_arena(seed=1), NO_LIMIT) is None
    saved.unlink()
    assert mapped is not None
    np.testing.assert_array_equal(mapped, random_arena())


def test_another_process_maps_the_same_bytes(saved: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from smallmind_engine.kernels.numba_backend.packed_files import map_arena;"
        f"sys.stdout.buffer.write(map_arena(Path(sys.argv[1]), {SIZE})[-64:].tobytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(saved)], capture_output=True, check=True, timeout=120
    )
    assert done.stdout == random_arena()[-64:].tobytes()


def test_platforms_without_advice_map_as_well(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MADV_HUGEPAGE", "MADV_WILLNEED"):
        monkeypatch.delattr(packed_files.mmap, name, raising=False)
    assert map_arena(saved, SIZE) is not None


# -- damage ---------------------------------------------------------------------------------------


def test_no_file_is_nothing(tmp_path: Path) -> None:
    assert map_arena(tmp_path / "key.packed", SIZE) is None
    (tmp_path / "folder.packed").mkdir()
    assert map_arena(tmp_path / "folder.packed", SIZE) is None


@pytest.mark.parametrize("size", [0, 1, 100, DATA_OFFSET, DATA_OFFSET + SIZE - 1])
def test_a_truncated_file_is_nothing(saved: Path, size: int) -> None:
    os.truncate(saved, size)
    assert map_arena(saved, SIZE) is None


def test_a_file_that_shrinks_while_it_is_opened_is_nothing(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def shrinking(path: Path, *args: str) -> Any:
        os.truncate(path, 100)
        return real(path, *args)

    monkeypatch.setattr(Path, "open", shrinking)
    assert map_arena(saved, SIZE) is None


def test_an_arena_of_another_size_is_nothing(saved: Path) -> None:
    assert map_arena(saved, SIZE - 64) is None
    assert map_arena(saved, SIZE + 64) is None


@pytest.mark.parametrize("at", range(96))
def test_every_byte_of_the_header_counts(saved: Path, at: int) -> None:
    content = bytearray(saved.read_bytes()[:104])
    content[at] ^= 1
    with saved.open("r+b") as file:
        file.write(content)
    assert map_arena(saved, SIZE) is None


@pytest.mark.parametrize("at", [0, 4095, SIZE // 2, SIZE - 1])
def test_content_that_differs_in_long_stretches_is_nothing(saved: Path, at: int) -> None:
    """Two sampled pages never lie further apart than a 63rd of the arena."""
    begin = max(0, min(at, SIZE - SIZE // 63))
    with saved.open("r+b") as file:
        file.seek(DATA_OFFSET + begin)
        file.write(bytes(SIZE // 63))
    assert map_arena(saved, SIZE) is None


def test_the_file_of_another_model_under_this_name_is_nothing(saved: Path) -> None:
    other = saved.with_name("other.packed")
    saved.rename(other)
    assert map_arena(other, SIZE) is None


# -- saving that fails ----------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    problem = save_arena(tmp_path / "file" / "key.packed", random_arena(), NO_LIMIT)
    assert problem is not None
    assert "cannot be written" in problem


def test_a_disk_that_would_be_full_is_not_filled(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=SIZE)
    monkeypatch.setattr(packed_files.shutil, "disk_usage", lambda _: usage)
    problem = save_arena(folder / "key.packed", random_arena(), NO_LIMIT)
    assert problem is not None
    assert f"{SIZE} bytes free" in problem
    assert names(folder) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_a_write_that_the_system_refuses_is_told_and_leaves_nothing(folder: Path) -> None:
    """A limit of the size of files stands for a full disk."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (DATA_OFFSET + SIZE // 2, before[1]))
    try:
        problem = save_arena(folder / "key.packed", random_arena(), NO_LIMIT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert problem is not None
    assert "cannot be written" in problem
    assert names(folder) == []


def test_cancelled_saving_leaves_nothing(folder: Path) -> None:
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        save_arena(folder / "key.packed", random_arena(), WorkLimit(token))
    assert names(folder) == []


def test_a_failed_save_keeps_the_file_that_was_there(saved: Path) -> None:
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError):
        save_arena(saved, random_arena(seed=1), WorkLimit(token))
    mapped = map_arena(saved, SIZE)
    assert mapped is not None
    np.testing.assert_array_equal(mapped, random_arena())


# -- room -----------------------------------------------------------------------------------------


def write_file(folder: Path, name: str, age_s: float, size: int = 100) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def test_files_used_longest_ago_go_first(folder: Path) -> None:
    ages = {"new": 10, "middle": 20, "old": 30}
    files = {name: write_file(folder, f"{name}.packed", age) for name, age in ages.items()}
    assert remove_unused(folder, files["new"], 250) == [files["old"]]
    assert names(folder) == ["middle.packed", "new.packed"]


def test_the_file_in_use_stays_even_if_it_is_the_oldest_and_too_large(folder: Path) -> None:
    kept = write_file(folder, "kept.packed", 50)
    other = write_file(folder, "other.packed", 1)
    assert remove_unused(folder, kept, 99) == [other]
    assert names(folder) == ["kept.packed"]


def test_use_is_noted_so_that_the_file_stays(folder: Path, saved: Path) -> None:
    os.utime(saved, (1.0, 1.0))
    other = write_file(folder, "other.packed", 3600)
    assert map_arena(saved, SIZE) is not None
    assert remove_unused(folder, folder / "new.packed", DATA_OFFSET + SIZE) == [other]


def test_drafts_of_crashed_processes_go_and_those_of_living_ones_stay(folder: Path) -> None:
    left = write_file(folder, "a.0.draft", 7200)
    write_file(folder, "b.0.draft", 1)
    write_file(folder, "notes.txt", 1e7)
    assert remove_unused(folder, folder / "kept.packed") == [left]
    assert names(folder) == ["b.0.draft", "notes.txt"]


def test_a_missing_folder_has_nothing_to_remove(tmp_path: Path) -> None:
    assert remove_unused(tmp_path / "nowhere", tmp_path / "kept.packed") == []


def test_files_that_cannot_be_deleted_are_not_said_to_be_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(folder, "old.packed", 10)

    def refuse(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    assert remove_unused(folder, folder / "kept.packed", 0) == []
