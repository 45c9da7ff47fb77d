"""Runs the checks that apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from smallmind.validation.golden import Golden, load_golden
from smallmind.validation.own_checks import (
    check_cache,
    check_determinism,
    check_forward,
    check_round_trip,
)
from smallmind.validation.reference_checks import (
    check_chat,
    check_greedy,
    check_logprobs,
    check_perplexity,
    check_tokenize,
)
from smallmind.validation.report import ValidationCheck, ValidationReport
from smallmind_engine.memory import BudgetEnforcer
from smallmind_engine.model import LoadedModel, LoadOptions, load_model
from smallmind_engine.telemetry import EventBus, ReasonCode
from smallmind_engine.telemetry.errors import ValidationDataError


def validate(
    path: Path,
    golden: Path | None = None,
    *,
    backend: str = "auto",
    on_check: Callable[[ValidationCheck], None] | None = None,
) -> ValidationReport:
    """Load a model and check it.

    Args:
        path: a GGUF file.
        golden: what a reference says of it; without, only what must hold for any model.
        backend: what computes.
        on_check: told of each check when it is done.

    Raises:
        ValidationDataError: the golden file is unreadable, or made for another model file.
        SmallMindError: the model does not load.
    """
    reference = None if golden is None else load_golden(golden)
    options = LoadOptions(backend=backend)
    model = load_model(path, options, BudgetEnforcer(), EventBus().emitter())
    try:
        return validate_model(model, reference, on_check=on_check)
    finally:
        model.close()


def validate_model(
    model: LoadedModel,
    golden: Golden | None = None,
    *,
    on_check: Callable[[ValidationCheck], None] | None = None,
) -> ValidationReport:
    """As ``validate``, for a model that is loaded already."""
    if golden is not None:
        found = model.file.sha256()
        if found != golden.model_sha256:
            raise ValidationDataError(
                ReasonCode.GOLDEN_INVALID,
                f"{golden.path} was made for the model file with SHA-256"
                f" {golden.model_sha256}; {model.path} has {found}",
                golden=golden.path,
                model=model.path,
            )
    checks: list[ValidationCheck] = []
    for check in _own(model) if golden is None else _against(model, golden):
        checks.append(check)
        if on_check is not None:
            on_check(check)
    return ValidationReport(
        model=model.name,
        backend=model.runner.backend,
        reference="none" if golden is None else golden.reference,
        checks=tuple(checks),
    )


def _own(model: LoadedModel) -> Iterator[ValidationCheck]:
    yield check_round_trip(model)
    yield check_forward(model)
    yield check_cache(model)
    yield check_determinism(model)


def _against(model: LoadedModel, golden: Golden) -> Iterator[ValidationCheck]:
    limits = golden.tolerances(model.runner.backend)
    if golden.tokenize:
        yield check_tokenize(model, golden.tokenize)
    if golden.logprobs:
        yield check_logprobs(model, golden.logprobs, limits)
    if golden.greedy:
        yield check_greedy(model, golden.greedy, limits)
    if golden.perplexity is not None:
        yield check_perplexity(model, golden.perplexity, limits)
    if golden.chat:
        yield from check_chat(model, golden.chat, limits)
