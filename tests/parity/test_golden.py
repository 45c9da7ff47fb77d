"""The real models do what the references say, within the stated tolerances."""

from __future__ import annotations

from pathlib import Path

import pytest

from smallmind.validation import ValidationReport, validate


def assert_passed(report: ValidationReport) -> None:
    failed = [
        f"{c.name}: {c.figure:.4g} > {c.limit} ({c.detail})" for c in report.checks if not c.passed
    ]
    assert failed == []
    assert report.passed


@pytest.mark.model
@pytest.mark.parametrize("golden", ["smollm2.json", "smollm2-float32.json"])
def test_smollm2_agrees_with_the_reference(
    smollm2_path: Path, golden_dir: Path, golden: str
) -> None:
    assert_passed(validate(smollm2_path, golden_dir / golden, backend="numpy"))


@pytest.mark.model
@pytest.mark.parametrize("golden", ["gemma3.json", "gemma3-float32.json"])
def test_gemma3_agrees_with_the_reference(gemma3_path: Path, golden_dir: Path, golden: str) -> None:
    assert_passed(validate(gemma3_path, golden_dir / golden, backend="numpy"))


@pytest.mark.model
def test_smollm2_passes_the_checks_that_need_no_reference(smollm2_path: Path) -> None:
    assert_passed(validate(smollm2_path))
