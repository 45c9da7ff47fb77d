"""Do the backends agree with each other?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from smallmind._engine import Engine
from smallmind.validation.golden import QUANTISED_REFERENCE
from smallmind.validation.logits import all_logits, log_normalisers
from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.kernels import AUTO, FloatArray, backend_names
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import (
    ConfigError,
    MemoryBudgetError,
    MissingExtraError,
    SmallMindError,
)

_PROMPT_TOKENS: Final = 32
_SMALLEST_COSINE: Final = 0.999
_TEXTS: Final = ("The cat sat on the mat.", "Prime numbers have two divisors.")


def check_backends(subject: Subject) -> Outcome:
    """On another backend, the model says nearly the same, and the same wherever it is sure."""
    mine = subject.engine.backend
    others = [name for name in backend_names() if name not in {AUTO, mine}]
    if not others:
        return skipped(f"there is no backend but {mine}")
    figures: list[Figure] = []
    left_out: list[tuple[str, SmallMindError]] = []
    for name in others:
        try:
            other = subject.another(backend=name, weights=None, kv_cache_type=None)
        except (MissingExtraError, ConfigError, MemoryBudgetError) as error:
            left_out.append((name, error))
            continue
        with other:
            if other.backend != name:  # it does not run such models, and another took its place
                left_out.append((name, _not_there(name, other.backend)))
                continue
            figures += (
                _decoder(subject, other) if subject.model.spec.causal else _encoder(subject, other)
            )
    told = "; ".join(f"{name} is left out: {error}" for name, error in left_out)
    if not figures:
        return skipped(told, left_out[0][1].reason)
    seen = ", ".join(f"{figure.name} {figure.value:.3g}" for figure in figures)
    return judged(f"held against {mine}: {seen}" + (f"; {told}" if told else ""), figures)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near two backends are.

    Attributes:
        drift: mean difference of log-probabilities of the tokens that one found likeliest, nats.
        margin: by how much the one was sure of a token where the other chose another, logits.
        different: steps at which they chose different tokens.
    """

    drift: float
    margin: float
    different: int


def agreement(one: FloatArray, other: FloatArray) -> Agreement:
    """Hold rows of logits, each of shape (T, V), against each other."""
    rows = np.arange(len(one))
    best, second = one.argmax(axis=-1), other.argmax(axis=-1)
    differs = best != second
    margins = (one[rows, best] - one[rows, second])[differs]
    of_one = one[rows, best] - log_normalisers(one)
    of_other = other[rows, best] - log_normalisers(other)
    return Agreement(
        drift=float(np.abs(of_one - of_other).mean()),
        margin=float(margins.max()) if len(margins) else 0.0,
        different=int(differs.sum()),
    )


def _decoder(subject: Subject, other: Engine) -> list[Figure]:
    """Greedy tokens of this backend, and what both think of each of them."""
    prompt = subject.prompt_ids(_PROMPT_TOKENS)
    tokens = subject.amount(8, 32)
    greedy = subject.generate(prompt, max_tokens=tokens, temperature=0.0, ignore_eos=True)
    ids = [*prompt, *greedy.token_ids[:-1]]
    near = agreement(
        all_logits(subject.model, ids, subject.limit), all_logits(other.model, ids, subject.limit)
    )
    limits, name = QUANTISED_REFERENCE, other.backend
    return [
        Figure(name=f"{name} drift", value=near.drift, unit="nats", at_most=limits.logprob),
        Figure(name=f"{name} margin", value=near.margin, unit="logits", at_most=limits.margin),
        Figure(name=f"{name} other tokens", value=near.different, unit=f"of {len(ids)}"),
    ]


def _encoder(subject: Subject, other: Engine) -> list[Figure]:
    vectors = [
        engine.embed(_TEXTS, cancellation=subject.token).vectors
        for engine in (subject.engine, other)
    ]
    cosine = float((vectors[0] * vectors[1]).sum(axis=-1).min())
    return [Figure(name=f"{other.backend} cosine", value=cosine, at_least=_SMALLEST_COSINE)]


def _not_there(name: str, instead: str) -> SmallMindError:
    return ConfigError(
        ReasonCode.BACKEND_UNKNOWN,
        f"it does not run such models; {instead} took its place",
        backend=name,
    )
