"""Building the tokenizer that a file's metadata asks for, or the best that its data allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.telemetry.errors import TokenizerError
from smallmind_engine.telemetry.reasons import DegradeReason, ReasonCode
from smallmind_engine.tokenizers.base import TokenizerParts, VocabularyTokenizer
from smallmind_engine.tokenizers.bert_normalizer import BertNormalizer
from smallmind_engine.tokenizers.bpe import BpeTokenizer
from smallmind_engine.tokenizers.byte_fallback import ByteTokenizer
from smallmind_engine.tokenizers.diagnostics import (
    TokenizerDiagnostics,
    TokenizerIssue,
    TokenizerMode,
)
from smallmind_engine.tokenizers.indexing import pieces
from smallmind_engine.tokenizers.pretokenizers import (
    DEFAULT_SPEC,
    PRE_TOKENIZERS,
    PreTokenizerSpec,
)
from smallmind_engine.tokenizers.protocol import Tokenizer
from smallmind_engine.tokenizers.special import read_special_tokens
from smallmind_engine.tokenizers.token_table import TokenTableTokenizer
from smallmind_engine.tokenizers.unigram import UnigramTokenizer
from smallmind_engine.tokenizers.vocabulary import (
    TextForm,
    TokenType,
    Vocabulary,
    as_list,
    byte_vocabulary,
    read_vocabulary,
)
from smallmind_engine.tokenizers.wordpiece import WordPieceTokenizer, has_upper_case

_PREFIX: Final = "tokenizer.ggml."

SUPPORTED_MODELS: Final[Mapping[str, tuple[str, TextForm]]] = {
    "gpt2": ("bpe", TextForm.BYTE_LEVEL),
    "gemma4": ("bpe", TextForm.SPACE_MARKED),
    "llama": ("token_table", TextForm.SPACE_MARKED),
    "t5": ("unigram", TextForm.SPACE_MARKED),
    "bert": ("wordpiece", TextForm.SPACE_MARKED),
}
"""Each known ``tokenizer.ggml.model``: what is built for it, and how its entries are spelled."""

# Pre-tokenizers whose vocabularies mark spaces although their model is "gpt2".
_SPACE_MARKED_PRE: Final = frozenset({"gemma4", "granite-embed-multi-311m", "sarvam-moe"})


class TokenizerFactory:
    """Builds tokenizers from GGUF metadata."""

    @staticmethod
    def create(
        metadata: Mapping[str, object],
        *,
        mode: TokenizerMode = TokenizerMode.AUTO,
        strict: bool = False,
        expected_vocab_size: int | None = None,
        limit: WorkLimit = NO_LIMIT,
    ) -> Tokenizer:
        """Build a tokenizer; what is missing is noted in its ``diagnostics``.

        Args:
            metadata: of the file, with keys such as ``tokenizer.ggml.tokens``.
            mode: which tokenizer to build.
            strict: raise where the file is incomplete, instead of falling back.
            expected_vocab_size: rows of the model's embedding; ids beyond the vocabulary stand for
                nothing, tokens beyond the rows are not used.
            limit: stops the work.

        Raises:
            TokenizerError: in strict mode, with the reason of the first thing that is missing.
            OperationCancelledError: the limit was reached.
        """
        return _Assembly(metadata, mode, strict, expected_vocab_size, limit).build()


@dataclass(slots=True)
class _Assembly:
    """One build: what was asked for, and what was found to be wrong so far."""

    metadata: Mapping[str, object]
    mode: TokenizerMode
    strict: bool
    expected_vocab_size: int | None
    limit: WorkLimit
    issues: list[TokenizerIssue] = field(default_factory=list)
    vocabulary_lost: bool = False

    def build(self) -> VocabularyTokenizer:
        self.limit.check("building the tokenizer")
        model = self._text("model") or ""
        merges = self._merges()
        kind, form = self._intended(model, merges)
        vocabulary = read_vocabulary(
            self.metadata, form, self.expected_vocab_size, self.issues, self.limit
        )
        self.limit.check("building the tokenizer")
        if vocabulary is None:
            if self.mode is not TokenizerMode.BYTE:
                self._note(
                    DegradeReason.TOKENIZER_FALLBACK_BYTEBPE,
                    "without a vocabulary, every byte is a token: ids 0 to 255",
                )
            kind, vocabulary = "byte", byte_vocabulary(self.expected_vocab_size)
            self.vocabulary_lost = True
        kind = self._possible(kind, model, merges, vocabulary)
        pre = self._pre_tokenizer() if kind == "bpe" else None
        tokenizer = self._assemble(kind, model, merges, vocabulary, pre)
        self.limit.check("building the tokenizer")
        return tokenizer

    def _intended(self, model: str, merges: list[str]) -> tuple[str, TextForm]:
        """What the file and the mode ask for, before the data is looked at."""
        if model in SUPPORTED_MODELS:
            kind, form = SUPPORTED_MODELS[model]
        else:
            kind, form = self._intended_for_unknown(model, merges)
        if self._text("pre") in _SPACE_MARKED_PRE:
            form = TextForm.SPACE_MARKED
        return (kind if self.mode is TokenizerMode.AUTO else self.mode.value), form

    def _intended_for_unknown(self, model: str, merges: list[str]) -> tuple[str, TextForm]:
        tokens = as_list(self.metadata.get(_PREFIX + "tokens"))
        byte_level = "Ġ" in tokens or "Ċ" in tokens
        form = TextForm.BYTE_LEVEL if byte_level else TextForm.SPACE_MARKED
        if not model:
            self._note(
                DegradeReason.TOKENIZER_GGUF_METADATA_MISSING,
                "tokenizer.ggml.model is missing; the tokenizer is chosen by what else is there",
            )
            return ("bpe" if merges else "token_table"), form
        if self.mode is TokenizerMode.AUTO:
            known = ", ".join(SUPPORTED_MODELS)
            message = f"tokenizer.ggml.model is {model!r}; supported: {known}"
            if self.strict:
                raise TokenizerError(ReasonCode.TOKENIZER_UNSUPPORTED, message, model=model)
            self._note(
                DegradeReason.TOKENIZER_FALLBACK_TOKENTABLE_ONLY,
                f"{message}; the longest token at each place is taken",
            )
        return "longest_match", form

    def _possible(self, kind: str, model: str, merges: list[str], vocabulary: Vocabulary) -> str:
        """What the data allows of what was asked for."""
        if kind == "bpe" and not merges:
            self._note(
                DegradeReason.TOKENIZER_MERGES_MISSING,
                f"the tokenizer is BPE (model {model!r}), but tokenizer.ggml.merges is missing",
            )
            kind = "token_table"
            if vocabulary.scores is not None:
                self._note(
                    DegradeReason.TOKENIZER_FALLBACK_TOKENTABLE_ONLY,
                    "without merges, tokens are merged by their scores",
                )
        if kind in {"token_table", "unigram"} and vocabulary.scores is None:
            needs_scores = model in {"llama", "t5"}
            asked = self.mode is TokenizerMode.TOKEN_TABLE and not needs_scores
            if not asked:
                self._note(
                    DegradeReason.TOKENIZER_FALLBACK_TOKENTABLE_ONLY,
                    "without scores, the longest token at each place is taken",
                )
            kind = "longest_match"
        return kind

    def _assemble(
        self,
        kind: str,
        model: str,
        merges: list[str],
        vocabulary: Vocabulary,
        pre: PreTokenizerSpec | None,
    ) -> VocabularyTokenizer:
        special = read_special_tokens(
            self.metadata,
            vocabulary,
            model,
            # That special ids do not fit a vocabulary that is not there is no news.
            [] if self.vocabulary_lost else self.issues,
            add_bos=model in {"llama", "bert"} or (pre is not None and pre.add_bos),
            add_eos=model in {"t5", "bert"},
        )
        missing = sum(token_id is None for token_id in vocabulary.byte_ids())
        diagnostics = TokenizerDiagnostics(
            tokenizer_type=model,
            kind="token_table" if kind == "longest_match" else kind,
            mode=self.mode,
            pre=self._text("pre"),
            vocab_size=vocabulary.size,
            has_merges=bool(merges),
            merge_count=len(merges),
            has_scores=vocabulary.scores is not None,
            bos_id=special.bos_id,
            eos_id=special.eos_id,
            unk_id=special.unk_id,
            pad_id=special.pad_id,
            eog_ids=special.eog_ids,
            add_bos=special.add_bos,
            add_eos=special.add_eos,
            missing_bytes=missing,
            issues=tuple(self.issues),
        )
        if self.strict and self.issues:
            issue = self.issues[0]
            raise TokenizerError(
                ReasonCode(issue.reason.value),
                f"strict mode: {issue.message}",
                hint="convert the model again, or load it without strict",
                diagnostics=diagnostics,
            )
        spaced = kind == "wordpiece" or (
            kind in {"token_table", "longest_match"} and model == "llama"
        )
        parts = TokenizerParts(
            vocabulary=vocabulary,
            special=special,
            diagnostics=diagnostics,
            adds_space_prefix=kind not in {"bpe", "byte"}
            and vocabulary.form is TextForm.SPACE_MARKED
            and self._flag("add_space_prefix", default=spaced),
            strip_after=_stripping_ids(self.metadata, vocabulary),
        )
        if kind == "bpe" and pre is not None:
            return BpeTokenizer(parts, merges, pre, self.limit)
        if kind == "unigram":
            merge_spaces = self._flag("remove_extra_whitespaces", default=False)
            return UnigramTokenizer(parts, merge_spaces=merge_spaces, limit=self.limit)
        if kind == "wordpiece":
            return WordPieceTokenizer(parts, self._bert_normalizer(vocabulary), self.limit)
        if kind == "byte":
            return ByteTokenizer(parts)
        return TokenTableTokenizer(parts, self.limit)

    def _pre_tokenizer(self) -> PreTokenizerSpec:
        name = self._text("pre")
        spec = PRE_TOKENIZERS.get(name or "")
        if spec is None:
            found = "missing" if name is None else repr(name)
            self._note(
                DegradeReason.TOKENIZER_PRETOKENIZER_UNKNOWN,
                f"tokenizer.ggml.pre is {found}; the pattern 'default' is used",
            )
        return spec or DEFAULT_SPEC

    def _bert_normalizer(self, vocabulary: Vocabulary) -> BertNormalizer:
        """By the file's word; most say nothing, but a vocabulary shows whether case matters."""
        lowercase = self._flag("normalizer.lowercase", default=not has_upper_case(vocabulary))
        return BertNormalizer(
            lowercase=lowercase,
            strip_accents=self._flag("normalizer.strip_accents", default=lowercase),
        )

    def _merges(self) -> list[str]:
        merges = as_list(self.metadata.get(_PREFIX + "merges"))
        return [
            entry if isinstance(entry, str) else ""
            for piece in pieces(merges, self.limit)
            for entry in piece
        ]

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(_PREFIX + key)
        return value if isinstance(value, str) and value else None

    def _flag(self, key: str, *, default: bool) -> bool:
        value = self.metadata.get(_PREFIX + key)
        return bool(value) if isinstance(value, (bool, np.bool_)) else default

    def _note(self, reason: DegradeReason, message: str) -> None:
        self.issues.append(TokenizerIssue(reason, message))


def _stripping_ids(metadata: Mapping[str, object], vocabulary: Vocabulary) -> frozenset[int]:
    """Special tokens of Phi-3 swallow the blanks after them; its files do not say so."""
    name = str(metadata.get("general.name", "")).lower()
    if "phi-3" not in name and "phi3" not in name:
        return frozenset()
    special = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    found = {int(i) for i in np.isin(vocabulary.types, special).nonzero()[0]}
    kept = {vocabulary.ids.get(text) for text in ("<unk>", "<s>", "<|endoftext|>")}
    return frozenset(found - kept)
