"""Each check passes on a sound model, and fails when a fault is put in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reference_transformer import Reference
from smallmind.validation import Golden, ValidationReport, load_golden, validate, validate_model
from smallmind_engine.kernels import Chunk, FloatArray
from smallmind_engine.memory import BudgetEnforcer
from smallmind_engine.model import LoadedModel, LoadOptions, load_model
from smallmind_engine.telemetry import EventBus
from smallmind_engine.telemetry.errors import ValidationDataError
from tiny_models import TinyModel, write_tiny_model

MODEL = TinyModel("llama", scale=0.35, tied=False)
MESSAGES = [{"role": "user", "content": "the and"}]
PROMPT = "<|im_start|>user\nthe and<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", MODEL)


@pytest.fixture
def model(path: Path) -> Iterator[LoadedModel]:
    loaded = load_model(path, LoadOptions(), BudgetEnforcer(), EventBus().emitter())
    yield loaded
    loaded.close()


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


@pytest.fixture
def golden(golden_path: Path) -> Golden:
    return load_golden(golden_path)


def failed(report: ValidationReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


class FaultyRunner:
    """Passes everything on, but spoils logits."""

    def __init__(self, inner: object, spoil: object) -> None:
        self._inner = inner
        self._spoil = spoil

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def forward(self, chunks: list[Chunk], **kwargs: object) -> list[FloatArray | None]:
        answers = self._inner.forward(chunks, **kwargs)  # type: ignore[attr-defined]
        return [a if a is None else self._spoil(a, chunks) for a in answers]  # type: ignore[operator]


def with_fault(model: LoadedModel, spoil: object) -> LoadedModel:
    return dataclasses.replace(model, runner=FaultyRunner(model.runner, spoil))


def test_a_sound_model_passes_everything(model: LoadedModel, golden: Golden) -> None:
    seen: list[str] = []
    report = validate_model(model, golden, on_check=lambda check: seen.append(check.name))
    assert failed(report) == set()
    expected = ["tokenize", "logprobs", "greedy", "perplexity", "chat prompts", "chat greedy"]
    assert seen == expected
    assert validate_model(model).passed


def test_noise_in_the_logits_fails_what_looks_at_logits(model: LoadedModel, golden: Golden) -> None:
    noise = np.random.default_rng(0).normal(0, 2.0, model.spec.vocab_size).astype(np.float32)
    report = validate_model(with_fault(model, lambda logits, _: logits + noise), golden)
    assert failed(report) == {"logprobs", "greedy", "perplexity", "chat greedy"}


def test_a_changed_token_table_fails_tokenize_and_chat_prompts(
    model: LoadedModel, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = model.tokenizer.encode
    monkeypatch.setattr(model.tokenizer, "encode", lambda *a, **k: encode(*a, **k)[:-1])
    assert {"tokenize", "chat prompts"} <= failed(validate_model(model, golden))


def test_a_wrong_decoder_fails_tokenize(
    model: LoadedModel, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.tokenizer, "decode", lambda *a, **k: "something else")
    assert failed(validate_model(model, golden)) == {"tokenize"}
    assert "round trip" in failed(validate_model(model))


def test_another_template_fails_chat_prompts(model: LoadedModel, golden: Golden) -> None:
    other = dataclasses.replace(model, chat_template="{{ messages[0]['content'] }}")
    assert failed(validate_model(other, golden)) == {"chat prompts"}


def test_nan_fails_forward(model: LoadedModel) -> None:
    report = validate_model(with_fault(model, lambda logits, _: logits * np.nan))
    assert "forward" in failed(report)


def test_flat_logits_fail_forward(model: LoadedModel) -> None:
    assert "forward" in failed(validate_model(with_fault(model, lambda logits, _: logits * 0)))


def test_a_cache_that_differs_fails_kv_cache(model: LoadedModel) -> None:
    def late(logits: FloatArray, chunks: list[Chunk]) -> FloatArray:
        noise = np.arange(logits.shape[-1], dtype=np.float32)
        return logits + noise if len(chunks[0].token_ids) == 1 else logits

    assert failed(validate_model(with_fault(model, late))) == {"kv cache"}


def test_randomness_fails_determinism(model: LoadedModel) -> None:
    rng = np.random.default_rng(1)
    report = validate_model(
        with_fault(model, lambda row, _: row + rng.normal(0, 1e-5, row.shape).astype(np.float32))
    )
    assert failed(report) == {"determinism"}


def test_a_golden_file_of_another_model_is_refused(
    path: Path, golden_path: Path, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other.gguf", dataclasses.replace(MODEL, seed=9))
    with pytest.raises(ValidationDataError, match="SHA-256"):
        validate(other, golden_path)
    assert validate(path, golden_path).passed


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


def test_limits_follow_the_reference_and_the_backend(golden: Golden) -> None:
    assert golden.tolerances("numpy").margin == 0.02
    assert golden.tolerances("numba").margin == 0.5
    other = dataclasses.replace(golden, reference="llama.cpp")
    assert other.tolerances("numpy").logprob == 0.12
