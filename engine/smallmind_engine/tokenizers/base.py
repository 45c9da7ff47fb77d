"""What the tokenizers share: special tokens around the text, and the way from ids to bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import index
from typing import ClassVar

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.telemetry.errors import TokenizerError
from smallmind_engine.telemetry.reasons import ReasonCode
from smallmind_engine.tokenizers.byte_level import from_byte_level, text_bytes, well_formed
from smallmind_engine.tokenizers.diagnostics import TokenizerDiagnostics
from smallmind_engine.tokenizers.fragments import SpecialTokenSplitter
from smallmind_engine.tokenizers.special import SpecialTokens
from smallmind_engine.tokenizers.vocabulary import (
    BYTE_NAMES,
    SPACE_MARK,
    TextForm,
    TokenType,
    Vocabulary,
)

_HIDDEN = (TokenType.CONTROL, TokenType.UNKNOWN)
_VERBATIM = (*_HIDDEN, TokenType.USER_DEFINED)
_SILENT = (TokenType.UNUSED, TokenType.UNDEFINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerParts:
    """What every tokenizer is built from.

    Attributes:
        vocabulary: the tokens.
        special: the special ids.
        diagnostics: shown to users as they are.
        adds_space_prefix: a text that begins a sequence or follows a special token gets a space.
        strip_after: ids that swallow the blanks after them.
    """

    vocabulary: Vocabulary
    special: SpecialTokens
    diagnostics: TokenizerDiagnostics
    adds_space_prefix: bool = False
    strip_after: frozenset[int] = field(default_factory=frozenset)


class VocabularyTokenizer(ABC):
    """A tokenizer over a vocabulary; what is left to say is how plain text becomes ids.

    Args:
        parts: see there.
    """

    kind: ClassVar[str]

    def __init__(self, parts: TokenizerParts) -> None:
        self._vocabulary = vocabulary = parts.vocabulary
        self._special = special = parts.special
        self.diagnostics = parts.diagnostics
        self.adds_space_prefix = parts.adds_space_prefix
        self.vocab_size = vocabulary.size
        self.bos_id = special.bos_id
        self.eos_id = special.eos_id
        self.unk_id = special.unk_id
        self.pad_id = special.pad_id
        self.eog_ids = special.eog_ids
        self.add_bos = special.add_bos
        self.add_eos = special.add_eos
        self._byte_ids = vocabulary.byte_ids()
        # Filled as tokens are met: two threads may fill a place twice, with the same bytes.
        self._pieces: list[bytes | None] = [None] * vocabulary.size
        types, tokens = vocabulary.types, vocabulary.tokens
        # Comparing NumPy's numbers with enums takes a hundred times as long as plain ones.
        self._types: list[int] = types.tolist()
        always = {tokens[i]: int(i) for i in (types == TokenType.USER_DEFINED).nonzero()[0]}
        hidden = (types == TokenType.CONTROL) | (types == TokenType.UNKNOWN)
        named = {tokens[i]: int(i) for i in hidden.nonzero()[0]}
        self._plain_splitter = SpecialTokenSplitter(always, parts.strip_after)
        self._special_splitter = SpecialTokenSplitter({**always, **named}, parts.strip_after)

    def encode(
        self,
        text: str,
        *,
        add_special: bool = True,
        parse_special: bool = False,
        limit: WorkLimit = NO_LIMIT,
    ) -> list[int]:
        """See ``Tokenizer.encode``."""
        limit.check("tokenising")
        ids: list[int] = []
        if add_special and self.add_bos and self.bos_id is not None:
            ids.append(self.bos_id)
        splitter = self._special_splitter if parse_special else self._plain_splitter
        after_special = True
        for fragment in splitter.split(well_formed(text), limit):
            if isinstance(fragment, int):
                ids.append(fragment)
                after_special = True
            else:
                prefix = " " if self.adds_space_prefix and after_special else ""
                self._encode_text(prefix + fragment, ids, limit)
                after_special = False
        if add_special and self.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def special_fragments(self, text: str) -> list[str | int]:
        """See ``Tokenizer.special_fragments``."""
        return self._special_splitter.split(well_formed(text), NO_LIMIT)

    @abstractmethod
    def _encode_text(self, text: str, ids: list[int], limit: WorkLimit) -> None:
        """Append the ids of ``text``, in which no special token is left."""

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """See ``Tokenizer.decode``."""
        pieces = [self.token_bytes(token_id, skip_special=skip_special) for token_id in ids]
        if self.adds_space_prefix:
            strip_space_prefix(pieces, skip_empty=skip_special)
        return b"".join(pieces).decode("utf-8", "replace")

    def token_bytes(self, token_id: int, *, skip_special: bool = False) -> bytes:
        """See ``Tokenizer.token_bytes``."""
        if type(token_id) is not int or not 0 <= token_id < self.vocab_size:  # asked for each token
            token_id = self._checked(token_id)
        if skip_special and self._types[token_id] in _HIDDEN:
            return b""
        piece = self._pieces[token_id]
        if piece is None:
            piece = self._pieces[token_id] = self._spell_out(token_id)
        return piece

    def token_text(self, token_id: int) -> str:
        """See ``Tokenizer.token_text``."""
        return self._vocabulary.tokens[self._checked(token_id)]

    def _spell_out(self, token_id: int) -> bytes:
        text = self._vocabulary.tokens[token_id]
        token_type = self._types[token_id]
        if token_type in _SILENT:
            return b""
        if token_type in _VERBATIM:
            return text_bytes(text)
        if token_type == TokenType.BYTE and text in BYTE_NAMES:
            return BYTE_NAMES[text]
        if self._vocabulary.form is TextForm.BYTE_LEVEL:
            return from_byte_level(text)
        return text_bytes(text.replace(SPACE_MARK, " "))

    def _checked(self, token_id: int) -> int:
        try:
            number = index(token_id)
        except TypeError:
            number = -1
        if not 0 <= number < self.vocab_size:
            raise TokenizerError(
                ReasonCode.TOKENIZER_TOKEN_ID_INVALID,
                f"token id {token_id!r} is outside the vocabulary of {self.vocab_size} tokens",
                hint=f"pass whole numbers from 0 to {self.vocab_size - 1}",
                token_id=token_id,
                vocab_size=self.vocab_size,
            )
        return number

    def _ids_of_bytes(self, data: bytes) -> list[int]:
        """Byte tokens of ``data``; a byte without one becomes the unknown token, or nothing."""
        found = (self._byte_ids[byte] for byte in data)
        ids = (self.unk_id if token_id is None else token_id for token_id in found)
        return [token_id for token_id in ids if token_id is not None]


def strip_space_prefix(pieces: list[bytes], *, skip_empty: bool) -> None:
    """Take the space that ``encode`` put before a text off its first piece, in place.

    Args:
        pieces: bytes of each token.
        skip_empty: look past tokens that are not shown.
    """
    for place, piece in enumerate(pieces):
        if piece or not skip_empty:
            pieces[place] = piece.removeprefix(b" ")
            return
