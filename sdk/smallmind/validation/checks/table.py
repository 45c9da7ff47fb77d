"""The checks, in the order in which they run. A new one is a function and an entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from smallmind.validation.checks import golden_parity
from smallmind.validation.checks.backends import check_backends
from smallmind.validation.checks.batching import check_batching
from smallmind.validation.checks.cancellation import check_cancellation
from smallmind.validation.checks.chat_template import check_chat_template
from smallmind.validation.checks.determinism import check_determinism
from smallmind.validation.checks.embeddings import check_embeddings
from smallmind.validation.checks.finite_logits import check_finite_logits
from smallmind.validation.checks.kv_cache import check_kv_cache
from smallmind.validation.checks.memory_budget import check_memory_budget
from smallmind.validation.checks.reuse import check_prefix_sharing, check_session_reuse
from smallmind.validation.checks.special_tokens import check_special_tokens
from smallmind.validation.checks.speed import check_speed
from smallmind.validation.checks.stop_sequences import check_stop_sequences
from smallmind.validation.checks.tokenizer_fallbacks import check_fallbacks
from smallmind.validation.checks.tokenizer_round_trip import check_round_trip
from smallmind.validation.report import Outcome
from smallmind.validation.subject import Subject


class Applies(StrEnum):
    """To which models a check applies."""

    ALL = "all"
    DECODERS = "decoders"  # models that predict the next token


@dataclass(frozen=True, slots=True)
class Check:
    """A check.

    Attributes:
        name: by which it is chosen.
        question: that it answers.
        run: looks; what it raises is its failure.
        applies: to which models.
        quick: whether it is part of a quick validation.
    """

    name: str
    question: str
    run: Callable[[Subject], Outcome]
    applies: Applies = Applies.DECODERS
    quick: bool = True


CHECKS: Final = (
    Check(
        "tokenizer-round-trip",
        "Do texts of all kinds come back from their tokens?",
        check_round_trip,
        Applies.ALL,
    ),
    Check(
        "special-tokens",
        "Can nobody forge a control token by writing its name?",
        check_special_tokens,
        Applies.ALL,
    ),
    Check(
        "tokenizer-fallbacks",
        "Does the tokenizer give way without losing text, and say so, where parts are missing?",
        check_fallbacks,
        Applies.ALL,
        quick=False,
    ),
    Check(
        "golden-tokens",
        "Are ids those of the reference?",
        golden_parity.check_tokens,
        Applies.ALL,
    ),
    Check(
        "golden-logprobs",
        "Are log-probabilities those of the reference?",
        golden_parity.check_logprobs,
    ),
    Check(
        "golden-greedy",
        "Does the model choose the tokens of the reference?",
        golden_parity.check_greedy,
    ),
    Check(
        "golden-perplexity",
        "Does it foresee a text as well as the reference does?",
        golden_parity.check_perplexity,
    ),
    Check(
        "golden-chat",
        "Do conversations become the prompts of the reference, and go on as there?",
        golden_parity.check_chat,
    ),
    Check(
        "finite-logits",
        "Are the model's numbers numbers, and do they tell tokens apart?",
        check_finite_logits,
    ),
    Check(
        "kv-cache",
        "Does the KV cache give what one step over all tokens gives?",
        check_kv_cache,
    ),
    Check(
        "determinism",
        "Do the same request and seed give the same tokens again?",
        check_determinism,
    ),
    Check(
        "batching",
        "Does a request give the same tokens in company as alone?",
        check_batching,
    ),
    Check(
        "session-reuse",
        "Does a session's second turn compute only what is new, and give the same?",
        check_session_reuse,
    ),
    Check(
        "prefix-sharing",
        "Does a prompt that begins like another compute only the rest, and give the same?",
        check_prefix_sharing,
    ),
    Check(
        "stop-sequences",
        "Does a stop string end the completion, and stay out of the text?",
        check_stop_sequences,
    ),
    Check(
        "chat-template",
        "Does the file's chat template render?",
        check_chat_template,
    ),
    Check(
        "embeddings",
        "Are vectors finite, of length 1, and the same alone as in company?",
        check_embeddings,
        Applies.ALL,
    ),
    Check(
        "cancellation",
        "How soon do requests return when they are cancelled?",
        check_cancellation,
    ),
    Check(
        "memory-budget",
        "Is a budget that is too small refused before anything is taken, with a breakdown?",
        check_memory_budget,
        Applies.ALL,
    ),
    Check(
        "backends",
        "Do the backends agree?",
        check_backends,
        Applies.ALL,
        quick=False,
    ),
    Check(
        "speed",
        "How fast is it, and is that fast enough?",
        check_speed,
    ),
)
"""All of them."""
