"""The token table alone: SentencePiece's merging by score, or longest match without scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.tokenizers.base import TokenizerParts, VocabularyTokenizer
from smallmind_engine.tokenizers.byte_level import to_byte_level
from smallmind_engine.tokenizers.indexing import pieces
from smallmind_engine.tokenizers.merging import merge_symbols
from smallmind_engine.tokenizers.vocabulary import SPACE_MARK, TextForm, TokenType, Vocabulary
from smallmind_engine.tokenizers.words import WordCache

_CHECK_EVERY: Final = 1024
_NONCHARACTER: Final = "\uffff"
_WRITTEN: Final = frozenset({TokenType.NORMAL, TokenType.USER_DEFINED})


class TokenTableTokenizer(VocabularyTokenizer):
    """Splits text by the token table.

    With scores, neighbouring symbols merge into the token with the best score until no pair is
    a token. Without, the longest token at each place is taken. What has no token is spelled by
    byte tokens, so no text is lost where the table has them.

    Args:
        parts: vocabulary and special tokens.
        limit: stops the building.

    Source: Kudo & Richardson 2018, "SentencePiece"; the order of merges is llama.cpp's.
    """

    kind: ClassVar = "token_table"

    def __init__(self, parts: TokenizerParts, limit: WorkLimit = NO_LIMIT) -> None:
        super().__init__(parts)
        vocabulary = parts.vocabulary
        self._over_bytes = vocabulary.form is TextForm.BYTE_LEVEL
        self._scores = vocabulary.scores
        self._words = WordCache(self._merge_word)
        self._word_pattern = word_pattern(vocabulary, limit)
        self._longest: dict[str, int] = {}
        self._written: Mapping[str, int] = vocabulary.ids
        if self._scores is None:
            self._written = _written_tokens(vocabulary, limit)
            self._longest = _longest_by_first_character(list(self._written), limit)

    def _encode_text(self, text: str, ids: list[int], limit: WorkLimit) -> None:
        spelled = to_byte_level(text) if self._over_bytes else text.replace(" ", SPACE_MARK)
        if self._scores is None:
            self._take_longest(spelled, ids, limit)
        elif self._over_bytes:
            ids += self._merge_word(spelled, limit)
        else:
            words = (match[0] for match in self._word_pattern.finditer(spelled))
            self._words.extend(ids, words, limit)

    def _merge_word(self, word: str, limit: WorkLimit) -> list[int]:
        known = self._vocabulary.ids
        ids: list[int] = []
        for symbol in merge_symbols(word, self._rank, limit):
            token_id = known.get(symbol)
            if token_id is None:
                ids += self._ids_without_token(symbol)
            else:
                ids.append(token_id)
        return ids

    def _rank(self, left: str, right: str) -> float | None:
        token_id = self._vocabulary.ids.get(left + right)
        if token_id is None or self._scores is None:
            return None
        return -self._scores[token_id]

    def _take_longest(self, text: str, ids: list[int], limit: WorkLimit) -> None:
        known, place, steps = self._written, 0, 0
        while place < len(text):
            if steps % _CHECK_EVERY == 0:
                limit.check("tokenising")
            steps += 1
            longest = self._longest.get(text[place], 0)
            for end in range(min(place + longest, len(text)), place, -1):
                token_id = known.get(text[place:end])
                if token_id is not None:
                    ids.append(token_id)
                    place = end
                    break
            else:
                ids += self._ids_without_token(text[place])
                place += 1

    def _ids_without_token(self, char: str) -> list[int]:
        if self._over_bytes:
            return [] if self.unk_id is None else [self.unk_id]
        return self._ids_of_bytes(char.replace(SPACE_MARK, " ").encode())


def word_pattern(vocabulary: Vocabulary, limit: WorkLimit = NO_LIMIT) -> re.Pattern[str]:
    """Where a text with marked spaces can be cut without changing its tokens.

    No token holds the characters on both sides of the cut, so no merge crosses it. Nearly
    always that is before every run of spaces; characters that some token has before a space,
    such as ``>`` in Gemma's ``>▁</``, keep the space with them.
    """
    before_mark = re.compile(f"([^{SPACE_MARK}]){SPACE_MARK}")
    crossing: set[str] = set()
    for piece in pieces(vocabulary.tokens, limit):
        joined = _NONCHARACTER.join(piece)
        if joined.count(_NONCHARACTER) != len(piece) - 1:  # some token has it, too
            for token in piece:
                crossing.update(before_mark.findall(token))
            continue
        # Most tokens begin with a space, and only those within one matter.
        within = joined.replace(_NONCHARACTER + SPACE_MARK, _NONCHARACTER).split(SPACE_MARK)
        crossing.update({part[-1] for part in within[:-1] if part} - {_NONCHARACTER})
    held = "".join(sorted(crossing))
    more = f"|(?<=[{re.escape(held)}]){SPACE_MARK}+" if held else ""
    return re.compile(f"{SPACE_MARK}*(?:[^{SPACE_MARK}]+{more})+|{SPACE_MARK}+")


def _written_tokens(vocabulary: Vocabulary, limit: WorkLimit) -> dict[str, int]:
    """Entries that text may be made of: ``</s>`` in a text is no end, ``<0x41>`` is no letter."""
    types = vocabulary.types.tolist()
    written: dict[str, int] = {}
    for some in pieces(list(vocabulary.ids.items()), limit):
        written.update((entry, token_id) for entry, token_id in some if types[token_id] in _WRITTEN)
    return written


def _longest_by_first_character(tokens: Sequence[str], limit: WorkLimit) -> dict[str, int]:
    longest: dict[str, int] = {}
    for piece in pieces(tokens, limit):
        for token in piece:
            if len(token) > longest.get(token[0], 0):
                longest[token[0]] = len(token)
    return longest
