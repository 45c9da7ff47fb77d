"""The modules of ``tests/benchmarks``, a report with known figures, and a tiny made-up model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if str(BENCHMARKS) not in sys.path:
    sys.path.append(str(BENCHMARKS))

from synthetic_models import RECIPES, TINY, write_model  # noqa: E402

from canned_report import canned_report  # noqa: E402 - found by the line above


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each recipe, in the shape TINY."""
    folder = tmp_path_factory.mktemp("synthetic")
    return {name: write_model(folder / f"{name}.gguf", TINY, RECIPES[name]) for name in RECIPES}


@pytest.fixture
def tiny_model(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["q4_k"]


@pytest.fixture
def report() -> dict:
    """Three rounds of both engines."""
    return canned_report()


@pytest.fixture
def report_alone() -> dict:
    """The same without llama.cpp."""
    return canned_report(alone=True)
