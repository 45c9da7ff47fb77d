"""WordPiece: each word is cut into the longest pieces that the vocabulary has (BERT)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.tokenizers.base import TokenizerParts, VocabularyTokenizer
from smallmind_engine.tokenizers.bert_normalizer import BertNormalizer
from smallmind_engine.tokenizers.indexing import pieces
from smallmind_engine.tokenizers.vocabulary import SPACE_MARK, TokenType, Vocabulary
from smallmind_engine.tokenizers.words import WordCache

_CONTINUATION: Final = "##"
_MAX_WORD_CHARS: Final = 100
"""Longer words are unknown, as in the reference."""

_PIECES: Final = (TokenType.NORMAL, TokenType.USER_DEFINED)


class WordPieceTokenizer(VocabularyTokenizer):
    """Normalises text as BERT does, and finds the pieces of each word from left to right.

    A vocabulary marks either the pieces that go on within a word (``##ing``), or those that begin
    one (``▁play``, as GGUF files have it); both are understood. A word that cannot be made of
    pieces is one unknown token.

    Args:
        parts: vocabulary and special tokens.
        normalizer: how text is cut into words.
        limit: stops the building.

    Source: Wu et al. 2016, section 4.1 (arXiv:1609.08144); greedy from the left, as in BERT.
    """

    kind: ClassVar = "wordpiece"

    def __init__(
        self, parts: TokenizerParts, normalizer: BertNormalizer, limit: WorkLimit = NO_LIMIT
    ) -> None:
        super().__init__(parts)
        vocabulary = parts.vocabulary
        self._hashed = marks_continuations(vocabulary)
        self._first: dict[str, int] = {}
        self._next: dict[str, int] = {}
        types = vocabulary.types.tolist()
        for some in pieces(list(vocabulary.ids.items()), limit):
            for entry, token_id in some:
                if types[token_id] in _PIECES:
                    begins, piece = self._piece(entry)
                    (self._first if begins else self._next)[piece] = token_id
        self._longest = max(map(len, (*self._first, *self._next)), default=0)
        self._normalizer = normalizer
        self._words = WordCache(self._encode_word)

    def _piece(self, entry: str) -> tuple[bool, str]:
        """Whether an entry begins a word, and its characters without the mark."""
        if self._hashed:
            return not entry.startswith(_CONTINUATION), entry.removeprefix(_CONTINUATION)
        return entry.startswith(SPACE_MARK), entry.removeprefix(SPACE_MARK)

    def _encode_text(self, text: str, ids: list[int], limit: WorkLimit) -> None:
        self._words.extend(ids, self._normalizer.words(text, limit), limit)

    def _encode_word(self, word: str, limit: WorkLimit) -> list[int]:
        del limit  # a word is short
        unknown = [] if self.unk_id is None else [self.unk_id]
        size = len(word)
        if size > _MAX_WORD_CHARS:
            return unknown
        ids: list[int] = []
        known: Mapping[str, int] = self._first
        begin = 0
        while begin < size:
            for end in range(min(size, begin + self._longest), begin, -1):
                token_id = known.get(word[begin:end])
                if token_id is not None:
                    break
            else:
                return unknown
            ids.append(token_id)
            begin, known = end, self._next
        return ids

    def _spell_out(self, token_id: int) -> bytes:
        if not self._hashed or self._types[token_id] not in _PIECES:
            return super()._spell_out(token_id)
        begins, piece = self._piece(self._vocabulary.tokens[token_id])
        return (f" {piece}" if begins else piece).encode("utf-8", "surrogateescape")


def marks_continuations(vocabulary: Vocabulary) -> bool:
    """Whether ``##`` marks the pieces that go on within a word, as in BERT's own files."""
    entries = vocabulary.tokens
    hashed = sum(entry.startswith(_CONTINUATION) for entry in entries)
    return hashed > sum(entry.startswith(SPACE_MARK) for entry in entries)


def has_upper_case(vocabulary: Vocabulary) -> bool:
    """Whether pieces of words have capital letters, so that text must keep its own.

    Entries in brackets are names, such as ``[CLS]``, whatever their type says.
    """
    entries = zip(vocabulary.tokens, vocabulary.types.tolist(), strict=True)
    return any(
        entry != entry.lower() and not entry.endswith("]")
        for entry, kind in entries
        if kind in _PIECES
    )
