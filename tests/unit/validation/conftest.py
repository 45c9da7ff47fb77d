"""Tiny models, and runs of chosen checks over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines import TINY
from smallmind import EngineOptions
from smallmind.validation import CheckResult, ValidationOptions, ValidationReport, ValidationRunner
from tiny_encoders import write_tiny_encoder
from tiny_models import TinyModel, write_tiny_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Paths by kind of tokenizer."""
    folder = tmp_path_factory.mktemp("validated")
    spm = TinyModel("llama", scale=0.35, tied=False, tokenizer="llama")
    return {
        "bpe": write_tiny_model(folder / "tiny.gguf", TINY),
        "token_table": write_tiny_model(folder / "spm.gguf", spm),
        "wordpiece": write_tiny_encoder(folder / "encoder.gguf"),
    }


@pytest.fixture
def validated(models: dict[str, Path]) -> Callable[..., ValidationReport]:
    """Runs checks over a model, on the NumPy backend and quickly."""

    def run(
        *only: str, model: str | Path = "bpe", options: dict[str, Any] | None = None, **more: Any
    ) -> ValidationReport:
        path = model if isinstance(model, Path) else models[model]
        more.setdefault("engine_options", EngineOptions(backend="numpy"))
        chosen = ValidationOptions(**{"only": only, "quick": True, **(options or {})})
        return ValidationRunner(path, options=chosen, **more).run()

    return run


@pytest.fixture
def checked(validated: Callable[..., ValidationReport]) -> Callable[..., CheckResult]:
    """As ``validated``, for one check: its result."""

    def run(name: str, **more: Any) -> CheckResult:
        return validated(name, **more).result(name)

    return run
