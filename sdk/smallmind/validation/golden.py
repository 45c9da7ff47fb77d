"""Golden files: what a reference implementation says of a model, as JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from smallmind_engine.telemetry.errors import ValidationDataError
from smallmind_engine.telemetry.reasons import ReasonCode


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a figure may be from the reference.

    Attributes:
        logprob: mean absolute difference of log-probabilities, nats.
        margin: the argmax must be the same where the reference is surer than this, in logits.
        nll: relative difference of the mean negative log-likelihood.
    """

    logprob: float
    margin: float
    nll: float


# From holding two references against each other: one quantises activations to 8 bits and keeps
# 16-bit caches, the other computes in float32 throughout.
QUANTISED_REFERENCE: Final = Tolerances(logprob=0.12, margin=0.5, nll=0.03)
FLOAT_REFERENCE: Final = Tolerances(logprob=0.002, margin=0.02, nll=0.001)


@dataclass(frozen=True, slots=True)
class TokenizeCase:
    """A text with its token ids, and the text that those stand for."""

    text: str
    parse_special: bool
    ids: list[int]
    detokenized: str


@dataclass(frozen=True, slots=True)
class LogprobCase:
    """Log-probabilities after each token of ``ids``: the best three, and ten after the last."""

    prompt: str
    ids: list[int]
    top10_last: list[tuple[int, float]]
    top3_each: list[list[tuple[int, float]]]


@dataclass(frozen=True, slots=True)
class GreedyCase:
    """A greedy continuation; ``margins`` are best logit minus second, where the file has them."""

    prompt: str
    prompt_ids: list[int]
    ids: list[int]
    margins: list[float]


@dataclass(frozen=True, slots=True)
class PerplexityCase:
    """The mean negative log-likelihood of ``ids``, nats a token."""

    ids: list[int]
    mean_nll: float


@dataclass(frozen=True, slots=True)
class ChatCase:
    """Messages, the prompt that they become, and its greedy continuation."""

    messages: list[Mapping[str, object]]
    greedy: GreedyCase


@dataclass(frozen=True, slots=True)
class Golden:
    """A golden file. Sections that it lacks are empty."""

    path: Path
    reference: str
    model_sha256: str
    tokenize: tuple[TokenizeCase, ...]
    logprobs: tuple[LogprobCase, ...]
    greedy: tuple[GreedyCase, ...]
    perplexity: PerplexityCase | None
    chat: tuple[ChatCase, ...]

    def tolerances(self, backend: str) -> Tolerances:
        """How near the backend must come: only NumPy computes in float32 throughout."""
        exact = "float32" in self.reference and backend == "numpy"
        return FLOAT_REFERENCE if exact else QUANTISED_REFERENCE


def load_golden(path: Path) -> Golden:
    """Read a golden file.

    Raises:
        ValidationDataError: it cannot be read, or has not the form of one.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return _golden(path, data)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValidationDataError(
            ReasonCode.GOLDEN_INVALID, f"{path}: cannot be read: {error}", path=path
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValidationDataError(
            ReasonCode.GOLDEN_INVALID,
            f"{path}: is not a golden file: {type(error).__name__}: {error}",
            path=path,
        ) from error


def find_goldens(places: Sequence[Path], sha256: Callable[[], str]) -> tuple[Golden, ...]:
    """The golden files for a model.

    Args:
        places: files, which must have been made for this model; and folders, of which those files
            are taken that were.
        sha256: tells that of the model's file; only called when there are places.

    Raises:
        ValidationDataError: a file cannot be read, or was made for another model file.
    """
    found: list[Golden] = []
    sha256 = functools.cache(sha256)
    for place in places:
        if place.is_dir():
            for path in sorted(place.glob("*.json")):
                try:
                    golden = load_golden(path)
                except ValidationDataError:
                    continue  # a folder may hold other things
                if golden.model_sha256 == sha256():
                    found.append(golden)
            continue
        golden = load_golden(place)
        if golden.model_sha256 != sha256():
            raise ValidationDataError(
                ReasonCode.GOLDEN_INVALID,
                f"{golden.path} was made for the model file with SHA-256"
                f" {golden.model_sha256}; this one has {sha256()}",
                golden=golden.path,
            )
        found.append(golden)
    return tuple(found)


def _golden(path: Path, data: Mapping[str, Any]) -> Golden:
    perplexity = data.get("perplexity")
    return Golden(
        path=path,
        reference=str(data["reference"]),
        model_sha256=str(data["model_sha256"]),
        tokenize=tuple(
            TokenizeCase(
                str(case["text"]),
                bool(case["parse_special"]),
                _ids(case["ids"]),
                str(case["detokenized"]),
            )
            for case in data.get("tokenize", ())
        ),
        logprobs=tuple(
            LogprobCase(
                str(case["prompt"]),
                _ids(case["ids"]),
                _pairs(case["top10_last"]),
                [_pairs(pairs) for pairs in case["top3_each"]],
            )
            for case in data.get("logprobs", ())
        ),
        greedy=tuple(_greedy(case) for case in data.get("greedy", ())),
        perplexity=(
            None
            if perplexity is None
            else PerplexityCase(_ids(perplexity["ids"]), float(perplexity["mean_nll"]))
        ),
        chat=tuple(
            ChatCase([dict(message) for message in case["messages"]], _greedy(case))
            for case in data.get("chat", ())
        ),
    )


def _greedy(case: Mapping[str, Any]) -> GreedyCase:
    ids = _ids(case["ids"])
    margins = [float(margin) for margin in case.get("margins", ())]
    if margins and len(margins) != len(ids):
        raise ValueError(f"{len(ids)} ids, but {len(margins)} margins")
    return GreedyCase(str(case["prompt"]), _ids(case["prompt_ids"]), ids, margins)


def _ids(values: Sequence[Any]) -> list[int]:
    return [int(value) for value in values]


def _pairs(values: Sequence[Sequence[Any]]) -> list[tuple[int, float]]:
    return [(int(token), float(logprob)) for token, logprob in values]
