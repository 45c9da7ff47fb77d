"""What was found out about a tokenizer while it was built."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from smallmind_engine.telemetry.reasons import DegradeReason


class TokenizerMode(StrEnum):
    """Which tokenizer to build."""

    AUTO = "auto"
    """The one that the file asks for, or the best that its data allows."""
    BPE = "bpe"
    """Byte-pair encoding by merge rules."""
    TOKEN_TABLE = "token_table"  # noqa: S105 - a mode, not a secret
    """The token table alone: merging by score, or longest match where scores are missing."""
    BYTE = "byte"
    """One token a byte."""


@dataclass(frozen=True, slots=True)
class TokenizerIssue:
    """One thing that is missing or wrong, and what was done about it."""

    reason: DegradeReason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerDiagnostics:
    """What a file holds for its tokenizer and what was made of it.

    Attributes:
        tokenizer_type: ``tokenizer.ggml.model``; empty when the file names none.
        kind: what was built: ``bpe``, ``token_table``, ``unigram``, ``wordpiece`` or ``byte``.
        mode: what was asked for.
        pre: ``tokenizer.ggml.pre``; None when the file names none.
        vocab_size: number of ids.
        has_merges: whether the file has merge rules.
        merge_count: how many.
        has_scores: whether the file has scores.
        bos_id: begin-of-sequence id; None when there is none, as for those below.
        eos_id: end-of-sequence id.
        unk_id: id for what has no token.
        pad_id: padding id.
        eog_ids: every id that ends a generation.
        add_bos: whether ``encode`` prepends BOS.
        add_eos: whether ``encode`` appends EOS.
        missing_bytes: how many of the 256 bytes no token stands for; text with them is lossy.
        issues: what is missing or wrong, in the order it was found.
    """

    tokenizer_type: str
    kind: str
    mode: TokenizerMode
    pre: str | None
    vocab_size: int
    has_merges: bool
    merge_count: int
    has_scores: bool
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    pad_id: int | None
    eog_ids: frozenset[int]
    add_bos: bool
    add_eos: bool
    missing_bytes: int
    issues: tuple[TokenizerIssue, ...]

    @property
    def has_issues(self) -> bool:
        """Whether anything is missing or wrong."""
        return bool(self.issues)
