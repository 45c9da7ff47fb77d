"""Checks that need no reference: what must hold for any model."""

from __future__ import annotations

from typing import Final

import numpy as np

from smallmind.validation.reference_checks import all_logits, stepwise_logits
from smallmind.validation.report import ValidationCheck
from smallmind_engine.model import LoadedModel

_TEXTS: Final = (
    "The capital of France is Paris.",
    "def add(a, b):\n    return a + b\n",
    "Grüße aus Köln, 東京 and Москва!",
    "1234567890 + 42 = ?",
    "emoji: 😀 👩‍👩‍👧‍👦 done",
)
_STEPS: Final = 8
_CACHE_LIMIT: Final = 1e-3


def check_round_trip(model: LoadedModel) -> ValidationCheck:
    """Texts come back from their ids unchanged, but for the tokenizer's own leading space."""
    wrong = []
    for text in _TEXTS:
        ids = model.tokenizer.encode(text, add_special=False)
        back = model.tokenizer.decode(ids)
        if back not in {text, f" {text}"}:
            wrong.append(f"{text!r} came back as {back!r}")
    detail = wrong[0] if wrong else "all came back"
    return ValidationCheck(
        "round trip", float(len(wrong)), 0.0, "wrong", f"{len(_TEXTS)} texts, {detail}"
    )


def check_forward(model: LoadedModel) -> ValidationCheck:
    """Logits are finite, and tell tokens apart."""
    logits = all_logits(model, _prompt(model))
    bad = int((~np.isfinite(logits)).sum())
    flat = int((logits.std(axis=-1) == 0.0).sum()) if not bad else 0
    return ValidationCheck(
        "forward",
        float(bad + flat),
        0.0,
        "bad values or rows",
        f"{logits.shape[0]} rows of {logits.shape[1]} logits",
    )


def check_cache(model: LoadedModel) -> ValidationCheck:
    """Step by step through the KV cache gives the logits of one step over all tokens."""
    ids = _prompt(model)
    whole = all_logits(model, ids)[len(ids) - _STEPS - 1 : -1]
    steps = np.stack(list(stepwise_logits(model, ids[:-_STEPS], ids[-_STEPS:])))
    scale = max(1.0, float(np.abs(whole).max()))
    return ValidationCheck(
        "kv cache",
        float(np.abs(whole - steps).max()) / scale,
        _CACHE_LIMIT,
        "relative difference",
        f"{_STEPS} steps",
    )


def check_determinism(model: LoadedModel) -> ValidationCheck:
    """The same steps twice give the same bits."""
    ids = _prompt(model)
    first = np.stack(list(stepwise_logits(model, ids[:-_STEPS], ids[-_STEPS:])))
    second = np.stack(list(stepwise_logits(model, ids[:-_STEPS], ids[-_STEPS:])))
    return ValidationCheck(
        "determinism",
        float((first != second).sum()),
        0.0,
        "different logits",
        f"{_STEPS} steps, twice",
    )


def _prompt(model: LoadedModel) -> list[int]:
    """Some tokens, enough for a few steps and few enough for the context."""
    ids = model.tokenizer.encode(_TEXTS[0] + _TEXTS[1])
    enough = _STEPS + 1
    ids = (ids * enough)[: max(enough, len(ids))] or [0] * enough
    return ids[: model.context_length]
