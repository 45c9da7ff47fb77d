"""Byte-pair encoding by merge rules, over bytes (GPT-2) or over characters (Gemma 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.tokenizers.base import TokenizerParts, VocabularyTokenizer
from smallmind_engine.tokenizers.byte_level import to_byte_level
from smallmind_engine.tokenizers.indexing import first_places
from smallmind_engine.tokenizers.merging import merge_symbols
from smallmind_engine.tokenizers.pretokenizers import PreTokenizer, PreTokenizerSpec
from smallmind_engine.tokenizers.vocabulary import SPACE_MARK, TextForm
from smallmind_engine.tokenizers.words import WordCache


class BpeTokenizer(VocabularyTokenizer):
    """Cuts text into words and merges each word's symbols by rank.

    Args:
        parts: vocabulary and special tokens.
        merges: rules ``"left right"``, the first one strongest.
        pre_tokenizer: how text is cut into words.
        limit: stops the building.

    Source: Sennrich et al. 2016, algorithm 1; Radford et al. 2019, section 2.2.
    """

    kind: ClassVar = "bpe"

    def __init__(
        self,
        parts: TokenizerParts,
        merges: Sequence[str],
        pre_tokenizer: PreTokenizerSpec,
        limit: WorkLimit = NO_LIMIT,
    ) -> None:
        super().__init__(parts)
        # Symbols hold no space, so the rule's own text is a key that needs no parsing.
        self._ranks = first_places(merges, limit)
        self._over_bytes = parts.vocabulary.form is TextForm.BYTE_LEVEL
        self._ignore_merges = pre_tokenizer.ignore_merges
        self._pre_tokenizer = PreTokenizer(pre_tokenizer.stages)
        self._words = WordCache(self._encode_word)

    def _encode_text(self, text: str, ids: list[int], limit: WorkLimit) -> None:
        if not self._over_bytes:
            text = text.replace(" ", SPACE_MARK)
        self._words.extend(ids, self._pre_tokenizer.split(text), limit)

    def _encode_word(self, word: str, limit: WorkLimit) -> list[int]:
        spelled = to_byte_level(word) if self._over_bytes else word
        known = self._vocabulary.ids
        # Over characters, a run of line breaks that is a token is never built by merges.
        whole = self._ignore_merges or (not self._over_bytes and not word.strip("\n"))
        if whole and spelled in known:
            return [known[spelled]]
        ids: list[int] = []
        for symbol in merge_symbols(spelled, self._rank, limit):
            token_id = known.get(symbol)
            if token_id is None:
                ids += self._ids_without_token(symbol)
            else:
                ids.append(token_id)
        return ids

    def _rank(self, left: str, right: str) -> float | None:
        return self._ranks.get(f"{left} {right}")

    def _ids_without_token(self, symbol: str) -> list[int]:
        """Ids of a merged symbol that is no token: those of its bytes, as far as there are any.

        A byte that the vocabulary lacks is left out, as in the reference.
        """
        if self._over_bytes:
            found = [self._vocabulary.ids.get(char) for char in symbol]
        else:
            found = [self._byte_ids[byte] for byte in symbol.encode()]
        return [token_id for token_id in found if token_id is not None]
