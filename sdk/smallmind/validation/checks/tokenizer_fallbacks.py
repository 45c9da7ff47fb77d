"""What becomes of the tokenizer when parts of the file were missing?

The metadata is read again with parts left out, in memory: the file and the engine stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from smallmind.validation.checks.losses import Return, round_trip
from smallmind.validation.checks.texts import TEXTS
from smallmind.validation.outcomes import judged
from smallmind.validation.report import Figure, Outcome
from smallmind.validation.subject import Subject
from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry import DegradeReason
from smallmind_engine.telemetry.errors import TokenizerError
from smallmind_engine.tokenizers import Tokenizer, TokenizerFactory, TokenizerMode

Metadata = Mapping[str, object]

_PREFIX: Final = "tokenizer.ggml."


@dataclass(frozen=True, slots=True)
class Fallback:
    """A way in which a file may be incomplete.

    Attributes:
        name: for messages.
        missing: keys that are left out, without their prefix.
        mode: what is asked for.
        reason: that must be told; None when nothing was lost.
        applies: whether the file can lose this.
    """

    name: str
    missing: tuple[str, ...]
    mode: TokenizerMode
    reason: DegradeReason | None
    applies: Callable[[Tokenizer], bool]


FALLBACKS: Final = (
    Fallback(
        "without merges",
        ("merges",),
        TokenizerMode.AUTO,
        DegradeReason.TOKENIZER_MERGES_MISSING,
        lambda tokenizer: tokenizer.kind == "bpe",
    ),
    Fallback(
        "without scores",
        ("scores",),
        TokenizerMode.AUTO,
        DegradeReason.TOKENIZER_FALLBACK_TOKENTABLE_ONLY,
        lambda tokenizer: (
            tokenizer.kind in {"token_table", "unigram"} and tokenizer.diagnostics.has_scores
        ),
    ),
    Fallback(
        "without a vocabulary",
        ("tokens", "merges", "scores", "token_type"),
        TokenizerMode.AUTO,
        DegradeReason.TOKENIZER_FALLBACK_BYTEBPE,
        lambda tokenizer: tokenizer.kind != "byte",
    ),
    Fallback(
        "as a token table",
        (),
        TokenizerMode.TOKEN_TABLE,
        None,
        lambda tokenizer: tokenizer.kind in {"bpe", "token_table"},
    ),
    Fallback("as bytes", (), TokenizerMode.BYTE, None, lambda _: True),
)


def check_fallbacks(
    subject: Subject, create: Callable[..., Tokenizer] = TokenizerFactory.create
) -> Outcome:
    """A lesser tokenizer loses no text, says that it is one, and is refused in strict mode.

    Args:
        subject: what is validated.
        create: builds a tokenizer; see ``TokenizerFactory.create``.
    """
    metadata = subject.model.file.metadata
    wrong: list[str] = []
    tried: list[str] = []
    for fallback in FALLBACKS:
        if fallback.applies(subject.tokenizer):
            tried.append(fallback.name)
            wrong += _wrong_with(fallback, metadata, create, subject.limit)
    issues = subject.tokenizer.diagnostics.issues
    told = "; the file itself: " + ", ".join(issue.reason for issue in issues) if issues else ""
    return judged(
        f"the tokenizer gives way as it should {', '.join(tried)}{told}",
        (
            Figure(name="fallbacks", value=len(tried)),
            Figure(name="issues of the file", value=len(issues)),
            Figure(name="wrong", value=len(wrong), at_most=0),
        ),
        wrong,
    )


def _wrong_with(
    fallback: Fallback,
    metadata: Metadata,
    create: Callable[..., Tokenizer],
    limit: WorkLimit,
) -> Iterable[str]:
    missing = {_PREFIX + key for key in fallback.missing}
    left = {key: value for key, value in metadata.items() if key not in missing}
    tokenizer = create(left, mode=fallback.mode, limit=limit)
    reasons = {issue.reason for issue in tokenizer.diagnostics.issues}
    if fallback.reason is not None and fallback.reason not in reasons:
        yield f"{fallback.name}: {fallback.reason} is not told"
    for text in TEXTS:
        result = round_trip(tokenizer, text, limit)
        if result.how is Return.WRONG:
            yield f"{fallback.name}: {result.told}"
            break
    if fallback.reason is not None:
        try:
            create(left, mode=fallback.mode, strict=True, limit=limit)
        except TokenizerError:
            return
        yield f"{fallback.name}: not refused in strict mode"
