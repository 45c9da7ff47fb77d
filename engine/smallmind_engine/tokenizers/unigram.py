"""Unigram language model: the segmentation with the highest sum of scores (T5)."""

from __future__ import annotations

from math import inf
from typing import ClassVar, Final

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.tokenizers.base import TokenizerParts, VocabularyTokenizer
from smallmind_engine.tokenizers.indexing import pieces
from smallmind_engine.tokenizers.token_table import word_pattern
from smallmind_engine.tokenizers.vocabulary import SPACE_MARK, TokenType
from smallmind_engine.tokenizers.words import WordCache

_CHECK_EVERY: Final = 256
_UNKNOWN_PENALTY: Final = 10.0
"""How much worse than the worst token an unknown character is; SentencePiece's figure."""

_UNKNOWN: Final = -1


class UnigramTokenizer(VocabularyTokenizer):
    """Finds the best segmentation of each word by dynamic programming.

    Args:
        parts: vocabulary, with scores as log-probabilities, and special tokens.
        merge_spaces: runs of spaces count as one, and spaces at the ends are dropped.
        limit: stops the building.

    Source: Kudo 2018, "Subword Regularization", section 3.2 (Viterbi).
    """

    kind: ClassVar = "unigram"

    def __init__(
        self, parts: TokenizerParts, *, merge_spaces: bool, limit: WorkLimit = NO_LIMIT
    ) -> None:
        super().__init__(parts)
        self._merge_spaces = merge_spaces
        vocabulary = parts.vocabulary
        types = vocabulary.types.tolist()
        scores = vocabulary.scores or [0.0] * vocabulary.size
        usable = {TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED}
        self._scores = {
            token: (
                0.0 if types[token_id] == TokenType.USER_DEFINED else scores[token_id],
                token_id,
            )
            for piece in pieces(list(vocabulary.ids.items()), limit)
            for token, token_id in piece
            if types[token_id] in usable
        }
        normal = [s for s, kind in zip(scores, types, strict=True) if kind == TokenType.NORMAL]
        self._unknown_score = min(normal, default=0.0) - _UNKNOWN_PENALTY
        self._longest = max(map(len, self._scores), default=0)
        self._pattern = word_pattern(vocabulary, limit)
        self._words = WordCache(self._encode_word)

    def _encode_text(self, text: str, ids: list[int], limit: WorkLimit) -> None:
        if self._merge_spaces:
            text = "".join(SPACE_MARK + word for word in text.split(" ") if word)
        text = text.replace(" ", SPACE_MARK)
        found: list[int] = []
        self._words.extend(found, (match[0] for match in self._pattern.finditer(text)), limit)
        before = None
        for token_id in found:
            # Neighbouring unknown characters are one unknown token.
            if token_id != _UNKNOWN:
                ids.append(token_id)
            elif before != _UNKNOWN and self.unk_id is not None:
                ids.append(self.unk_id)
            before = token_id

    def _encode_word(self, word: str, limit: WorkLimit) -> list[int]:
        size = len(word)
        best = [0.0] + [-inf] * size  # score of the best way to each place
        came_from = [(0, _UNKNOWN)] * (size + 1)
        for start in range(size):
            if start % _CHECK_EVERY == 0:
                limit.check("tokenising")
            single = False
            for end in range(start + 1, min(start + self._longest, size) + 1):
                entry = self._scores.get(word[start:end])
                if entry is None:
                    continue
                single = single or end == start + 1
                score = best[start] + entry[0]
                if score > best[end]:
                    best[end], came_from[end] = score, (start, entry[1])
            score = best[start] + self._unknown_score
            if not single and score > best[start + 1]:
                best[start + 1], came_from[start + 1] = score, (start, _UNKNOWN)
        ids: list[int] = []
        place = size
        while place > 0:
            place, token_id = came_from[place]
            ids.append(token_id)
        return ids[::-1]
