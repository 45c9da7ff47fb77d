"""Is what was kept in a KV cache as good as what is computed afresh?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smallmind.validation.checks.kv_cache import RELATIVE_LIMIT
from smallmind.validation.logits import all_logits, log_normalisers
from smallmind.validation.outcomes import judged, skipped
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.cache import BLOCK_TOKENS
from smallmind_engine.runtime import GenerationResult

_LOGPROB_LIMIT = 0.01
"""Nats; what another order of additions may do to a log-probability."""


@dataclass(frozen=True, slots=True)
class Afresh:
    """How a greedy completion stands to logits that were computed without any reuse.

    Attributes:
        missed: how far its tokens were from the best, to the largest logit.
        drift: largest difference of its log-probabilities, nats.
    """

    missed: float
    drift: float


def check_session_reuse(subject: Subject) -> Outcome:
    """A session's second turn computes only what is new, and gives what a fresh prompt does."""
    tokens = subject.amount(6, 16)
    first, second = subject.prompt_ids(24, first=1), subject.prompt_ids(12, first=2)
    if len(first) + len(second) + 2 * tokens >= subject.model.context_length:
        return skipped(f"the context of {subject.model.context_length} is too short")
    token, limit = subject.token, subject.limit
    with subject.engine.session() as session:
        asked = {"max_tokens": tokens, "temperature": 0.0, "logprobs": 0, "ignore_eos": True}
        session.generate(first, cancellation=token, **asked)  # type: ignore[arg-type]
        limit.check("validation")
        before = session.token_ids
        result = session.generate(second, cancellation=token, **asked)  # type: ignore[arg-type]
        limit.check("validation")
    afresh = _against_fresh(subject, [*before, *second], result)
    reused = result.usage.cached_tokens
    return judged(
        f"the second turn reused {reused} of {len(before)} tokens and computed"
        f" {result.timings.prefill_tokens}; log-probabilities differ by {afresh.drift:.2g} nats"
        f" from a fresh prompt's",
        (
            # The last token of a turn was never fed to the model.
            Figure(name="reused tokens", value=reused, at_least=len(before) - 1),
            Figure(name="missed margin", value=afresh.missed, at_most=RELATIVE_LIMIT),
            Figure(name="drift", value=afresh.drift, unit="nats", at_most=_LOGPROB_LIMIT),
        ),
    )


def check_prefix_sharing(subject: Subject) -> Outcome:
    """A prompt that begins like one before computes only the rest, and gives the same."""
    if not subject.engine_options.prefix_cache or subject.engine_options.max_prefix_tokens == 0:
        return skipped("the engine was loaded without a store of prefixes")
    tokens = subject.amount(6, 16)
    common = subject.prompt_ids(BLOCK_TOKENS + BLOCK_TOKENS // 2, first=3)
    ends = [subject.prompt_ids(9, first=index) for index in (4, 5)]
    if len(common) + len(ends[0]) + tokens >= subject.model.context_length:
        return skipped(f"the context of {subject.model.context_length} is too short")
    results = [
        subject.generate(
            [*common, *end], max_tokens=tokens, temperature=0.0, logprobs=0, ignore_eos=True
        )
        for end in ends
    ]
    second = results[1]
    afresh = _against_fresh(subject, [*common, *ends[1]], second)
    return judged(
        f"{second.usage.cached_tokens} of {second.usage.prompt_tokens} tokens were shared;"
        f" log-probabilities differ by {afresh.drift:.2g} nats from a fresh prompt's",
        (
            Figure(name="shared tokens", value=second.usage.cached_tokens, at_least=BLOCK_TOKENS),
            Figure(name="missed margin", value=afresh.missed, at_most=RELATIVE_LIMIT),
            Figure(name="drift", value=afresh.drift, unit="nats", at_most=_LOGPROB_LIMIT),
        ),
    )


def _against_fresh(subject: Subject, prompt: Sequence[int], result: GenerationResult) -> Afresh:
    """Hold a greedy completion against logits of its own tokens, from an empty cache."""
    chosen = list(result.token_ids)
    logits = all_logits(subject.model, [*prompt, *chosen[:-1]], subject.limit)
    rows = logits[len(prompt) - 1 :]
    of_chosen = rows[np.arange(len(chosen)), chosen]
    scale = max(1.0, float(np.abs(rows).max()))
    known = np.array([token.logprob for token in result.logprobs or ()])
    return Afresh(
        missed=float((rows.max(axis=-1) - of_chosen).max()) / scale,
        drift=float(np.abs(of_chosen - log_normalisers(rows) - known).max()),
    )
