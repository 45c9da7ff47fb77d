"""Does the KV cache give what one step over all tokens gives?"""

from __future__ import annotations

from typing import Final

import numpy as np

from smallmind.validation.logits import all_logits, stepwise_logits
from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject

RELATIVE_LIMIT: Final = 1e-3
"""Largest difference of logits that may come of another order of additions, to the largest one."""

_TOKENS: Final = 48


def check_kv_cache(subject: Subject) -> Outcome:
    """Step by step through the cache, logits are those of one step over all tokens."""
    steps = subject.amount(6, 16)
    ids = subject.prompt_ids(_TOKENS)
    if len(ids) <= steps:
        return skipped(f"the context of {subject.model.context_length} is too short")
    whole = all_logits(subject.model, ids, subject.limit)[len(ids) - steps - 1 : -1]
    rows = stepwise_logits(subject.model, ids[:-steps], ids[-steps:], subject.limit)
    difference = relative_difference(whole, np.stack(list(rows)))
    return judged(
        f"{steps} steps differ by {difference:.2g} of the largest logit from one step over all",
        (
            Figure(name="steps", value=steps),
            Figure(name="relative difference", value=difference, at_most=RELATIVE_LIMIT),
        ),
    )


def relative_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Largest difference, to the largest expected value or to 1."""
    scale = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(expected - found).max()) / scale
