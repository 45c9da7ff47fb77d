"""Fixtures that every kind of test shares."""

from __future__ import annotations

from pathlib import Path

import pytest

DEV = Path.home() / ".cache" / "smallmind-dev"


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    return DEV / "smollm2.gguf"


@pytest.fixture(scope="session")
def gemma3_path() -> Path:
    return DEV / "gemma3.gguf"
