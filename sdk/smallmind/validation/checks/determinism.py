"""Does the same request give the same tokens again?"""

from __future__ import annotations

import numpy as np

from smallmind.validation.logits import stepwise_logits
from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject

_TOKENS = 24
_STEPS = 4


def check_determinism(subject: Subject) -> Outcome:
    """The same steps give the same bits, and the same seed the same draws."""
    ids = subject.prompt_ids(_TOKENS)
    if len(ids) <= _STEPS:
        return skipped(f"the context of {subject.model.context_length} is too short")
    first, second = (
        np.stack(list(stepwise_logits(subject.model, ids[:-_STEPS], ids[-_STEPS:], subject.limit)))
        for _ in range(2)
    )
    seed = subject.options.seed
    tokens = subject.amount(12, 32)
    drawn = [
        subject.generate(ids, max_tokens=tokens, temperature=1.0, top_k=0, top_p=1.0, seed=seed)
        for _ in range(2)
    ]
    same = drawn[0].token_ids == drawn[1].token_ids
    return judged(
        f"{_STEPS} steps twice give the same bits, and {len(drawn[0].token_ids)} draws with seed"
        f" {seed} the same tokens",
        (
            Figure(name="different logits", value=float((first != second).sum()), at_most=0),
            Figure(name="drawn tokens", value=len(drawn[0].token_ids)),
            Figure(name="different draws", value=float(not same), at_most=0),
        ),
    )
