"""Fixtures that every kind of test shares: real models, golden files, reproducible properties."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engines import Recorder, tiny_engine
from smallmind import Engine
from smallmind._registry import resolve

REPOSITORY = Path(__file__).resolve().parents[1]

settings.register_profile(
    "smallmind",
    derandomize=True,
    deadline=None,  # shared machines are slow at times; pytest's own limits hold
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("smallmind")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2 135M Instruct, Q4_1: fetched once into the user's cache, its SHA-256 checked."""
    return resolve("smollm2")


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    """Gemma 3 270M, Q4_K_M: fetched once into the user's cache, its SHA-256 checked."""
    return resolve("gemma3-270m")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The golden files: in $SMALLMIND_GOLDEN_DIR, else in ``shared/golden`` beside the clone."""
    folder = Path(os.environ.get("SMALLMIND_GOLDEN_DIR", REPOSITORY.parent / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"no golden files at {folder}; set SMALLMIND_GOLDEN_DIR")
    return folder


@pytest.fixture
def recorder() -> Recorder:
    """Keeps every event of the test."""
    return Recorder()


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    """Over a tiny model, on the numba backend; ``recorder`` has its events."""
    pytest.importorskip("numba")
    with tiny_engine(tmp_path, exporters=[recorder], backend="numba") as engine:
        yield engine


@pytest.fixture(scope="session", autouse=True)
def _files_of_exporters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Exporters that write files write them into a folder of the tests unless told otherwise."""
    folder = tmp_path_factory.mktemp("exporters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMALLMIND_JSONL_PATH", str(folder / "events.jsonl"))
        patch.setenv("SMALLMIND_CHROME_TRACE_PATH", str(folder / "trace.json"))
        yield
