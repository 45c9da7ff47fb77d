"""Checks against golden files pass on a sound model, and fail when a fault is put in."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_transformer import Reference
from smallmind.validation import CheckStatus, ValidationReport, load_golden
from smallmind_engine.memory import BudgetEnforcer
from smallmind_engine.model import LoadOptions, load_model
from smallmind_engine.telemetry import EventBus
from smallmind_engine.telemetry.errors import ValidationDataError
from tiny_models import TinyModel, write_tiny_model
from validation_faults import FaultyLoader, logits_fault, tokenizer_fault

MODEL = TinyModel("llama", scale=0.35, tied=False)
MESSAGES = [{"role": "user", "content": "the and"}]
PROMPT = "<|im_start|>user\nthe and<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", MODEL)


@pytest.fixture(scope="module")
def golden_path(path: Path) -> Path:
    """A golden file for the tiny model, from the independent float64 reference."""
    loaded = load_model(path, LoadOptions(), BudgetEnforcer(), EventBus().emitter())
    reference = Reference(path)
    text = "the and in the"
    ids = loaded.tokenizer.encode(text)
    prompt_ids = loaded.tokenizer.encode(PROMPT, parse_special=True)

    def greedy(prompt: list[int]) -> dict[str, object]:
        out: list[int] = []
        margins = []
        for _ in range(6):
            logits = np.sort(row := reference.logits([*prompt, *out])[-1])
            margins.append(float(logits[-1] - logits[-2]))
            out.append(int(row.argmax()))
        return {"prompt_ids": prompt, "ids": out, "margins": margins}

    exact = reference.logits(ids)
    logprobs = exact - np.log(np.exp(exact).sum(axis=-1, keepdims=True))

    def best(row: np.ndarray, count: int) -> list[list[float]]:
        return [[int(i), float(row[i])] for i in np.argsort(-row)[:count]]

    nll = -float(np.mean([logprobs[i, ids[i + 1]] for i in range(len(ids) - 1)]))
    golden = {
        "reference": "float32 forward pass of the tests",
        "model_sha256": loaded.file.sha256(),
        "tokenize": [{"text": text, "parse_special": False, "ids": ids, "detokenized": text}],
        "logprobs": [
            {
                "prompt": text,
                "ids": ids,
                "top10_last": best(logprobs[-1], 10),
                "top3_each": [best(row, 3) for row in logprobs],
            }
        ],
        "greedy": [{"prompt": text, **greedy(ids)}],
        "perplexity": {"text": text, "ids": ids, "mean_nll": nll},
        "chat": [{"messages": MESSAGES, "prompt": PROMPT, **greedy(prompt_ids)}],
    }
    target = path.with_suffix(".json")
    target.write_text(json.dumps(golden))
    loaded.close()
    return target


GOLDEN = ("golden-tokens", "golden-logprobs", "golden-greedy", "golden-perplexity", "golden-chat")


@pytest.fixture
def against(validated: Callable[..., ValidationReport], path: Path, golden_path: Path) -> Any:
    """Runs the golden checks, with a fault in the model."""

    def run(**more: Any) -> ValidationReport:
        return validated("golden-*", **{"model": path, "golden": golden_path, **more})

    return run


def failed(report: ValidationReport) -> set[str]:
    return {result.name for result in report.of(CheckStatus.FAILED)}


def test_a_sound_model_passes_everything(against: Any) -> None:
    report = against()
    assert failed(report) == set()
    assert [result.name for result in report.results] == ["load", *GOLDEN]
    assert {result.status for result in report.results} == {CheckStatus.PASSED}
    assert report.references == ("tiny",)


def test_noise_in_the_logits_fails_what_looks_at_logits(against: Any) -> None:
    rng = np.random.default_rng(0)
    fault = logits_fault(lambda row, _: row + rng.normal(0, 2.0, row.shape).astype(np.float32))
    report = against(load=fault)
    assert failed(report) == {
        "golden-logprobs",
        "golden-greedy",
        "golden-perplexity",
        "golden-chat",
    }
    assert "missed margin" in report.result("golden-greedy").message


def test_ids_that_differ_fail_tokens_and_chat(against: Any) -> None:
    fault = tokenizer_fault(
        lambda tokenizer: {"encode": lambda *a, **k: tokenizer.encode(*a, **k)[:-1]}
    )
    assert failed(against(load=fault)) == {"golden-tokens", "golden-chat"}


def test_a_wrong_decoder_fails_tokens(against: Any) -> None:
    fault = tokenizer_fault(lambda _: {"decode": lambda *a, **k: "something else"})
    assert failed(against(load=fault)) == {"golden-tokens"}


def test_another_template_fails_chat(against: Any) -> None:
    fault = FaultyLoader(lambda _: {"chat_template": "{{ messages[0]['content'] }}"})
    assert failed(against(load=fault)) == {"golden-chat"}


def test_a_golden_file_of_another_model_is_refused(
    against: Any, tmp_path: Path, golden_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other.gguf", dataclasses.replace(MODEL, seed=9))
    with pytest.raises(ValidationDataError, match="SHA-256"):
        against(model=other)


def test_of_a_folder_the_files_for_the_model_are_taken(
    against: Any, tmp_path: Path, golden_path: Path
) -> None:
    text = golden_path.read_text()
    (tmp_path / "mine.json").write_text(text)
    (tmp_path / "other.json").write_text(
        re.sub(r'"model_sha256": "\w+"', '"model_sha256": ""', text)
    )
    (tmp_path / "note.json").write_text("[]")
    assert against(golden=tmp_path).references == ("mine",)


def test_parts_that_a_golden_file_lacks_are_skipped(
    against: Any, tmp_path: Path, golden_path: Path
) -> None:
    whole = json.loads(golden_path.read_text())
    part = {key: whole[key] for key in ("reference", "model_sha256", "greedy")}
    (tmp_path / "part.json").write_text(json.dumps(part))
    report = against(golden=tmp_path / "part.json")
    assert report.result("golden-greedy").status is CheckStatus.PASSED
    assert report.result("golden-chat").message == "the golden files have no such part"


NOT_GOLDEN = (
    "",
    "[]",
    "{}",
    '{"reference": 1}',
    '{"reference": "x", "model_sha256": "y", "greedy": [{}]}',
)


@pytest.mark.parametrize("text", NOT_GOLDEN)
def test_what_is_no_golden_file_is_refused(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text(text)
    with pytest.raises(ValidationDataError, match=r"broken\.json"):
        load_golden(broken)


def test_limits_follow_the_reference_and_the_backend(golden_path: Path) -> None:
    golden = load_golden(golden_path)
    assert golden.tolerances("numpy").margin == 0.02
    assert golden.tolerances("numba").margin == 0.5
    other = dataclasses.replace(golden, reference="llama.cpp")
    assert other.tolerances("numpy").logprob == 0.12
