"""The real models do what the references say, within the stated tolerances."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smallmind import load
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
@pytest.mark.parametrize(
    "golden", ["gemma3.json", pytest.param("gemma3-float32.json", marks=pytest.mark.slow)]
)
def test_gemma3_agrees_with_the_reference(gemma3_path: Path, golden_dir: Path, golden: str) -> None:
    assert_passed(validate(gemma3_path, golden_dir / golden, backend="numpy"))


@pytest.mark.model
def test_smollm2_passes_the_checks_that_need_no_reference(smollm2_path: Path) -> None:
    assert_passed(validate(smollm2_path))


@pytest.mark.model
def test_scores_of_smollm2_are_those_of_the_references(
    smollm2_path: Path, golden_dir: Path
) -> None:
    exact = json.loads((golden_dir / "smollm2-float32.json").read_text("utf-8"))
    llama_cpp = json.loads((golden_dir / "smollm2.json").read_text("utf-8"))
    with load(smollm2_path, backend="numpy", exporters=()) as engine:
        for case in exact["logprobs"]:
            for token, logprob in case["top10_last"]:
                scored = engine.score(case["ids"], [token])
                assert scored.logprob == pytest.approx(logprob, abs=0.01)
                assert scored.greedy == (token == case["top10_last"][0][0])
        text = exact["perplexity"]
        measured = engine.perplexity(text["ids"])
        assert -measured.mean_logprob == pytest.approx(text["mean_nll"], rel=0.001)
        assert -measured.mean_logprob == pytest.approx(
            llama_cpp["perplexity"]["mean_nll"], rel=0.03
        )
        # What llama.cpp wrote greedily the model finds likeliest too, wherever that is clear.
        for case in llama_cpp["greedy"]:
            scored = engine.score(case["prompt_ids"], case["ids"])
            pairs = zip(scored.tokens, case["margins"], strict=True)
            clear = [token.greedy for token, margin in pairs if margin > 0.5]
            assert clear
            assert all(clear)
