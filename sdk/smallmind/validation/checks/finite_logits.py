"""Are the model's numbers numbers, and do they tell tokens apart?"""

from __future__ import annotations

import numpy as np

from smallmind.validation.logits import all_logits
from smallmind.validation.outcomes import judged
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject

_TOKENS = 64


def check_finite_logits(subject: Subject) -> Outcome:
    """Logits are finite, have one row a token, and are not the same for all tokens."""
    model = subject.model
    ids = subject.prompt_ids(_TOKENS)
    logits = all_logits(model, ids, subject.limit)
    bad = int((~np.isfinite(logits)).sum())
    with np.errstate(invalid="ignore"):
        spread = logits.std(axis=-1)
    flat = int((spread == 0.0).sum())
    wrong: list[str] = []
    if logits.shape != (len(ids), model.spec.vocab_size):
        wrong.append(f"logits have the shape {logits.shape} for {len(ids)} tokens")
    elif bad:
        place = model.runner.find_non_finite(np.asarray(ids, np.int64)) or "logits"
        wrong.append(f"{bad} of {logits.size} logits are NaN or infinite, from {place} on")
    return judged(
        f"{len(ids)} rows of {model.spec.vocab_size} logits, standard deviation"
        f" {float(np.median(spread)):.3g}",
        (
            Figure(name="rows", value=len(ids)),
            Figure(name="not finite", value=bad, at_most=0),
            Figure(name="flat rows", value=flat, at_most=0),
            Figure(name="standard deviation", value=float(np.median(spread)), unit="logits"),
        ),
        wrong,
    )
