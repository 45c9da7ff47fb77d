"""What every tokenizer can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from smallmind_engine.control import NO_LIMIT, WorkLimit
from smallmind_engine.tokenizers.diagnostics import TokenizerDiagnostics


class Tokenizer(Protocol):
    """Turns text into token ids and back. Immutable to its users, and safe in many threads."""

    @property
    def kind(self) -> str:
        """``bpe``, ``token_table``, ``unigram``, ``wordpiece`` or ``byte``."""
        ...

    @property
    def diagnostics(self) -> TokenizerDiagnostics:
        """What the file holds and what was made of it."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of ids; valid ids are 0 to this less one."""
        ...

    @property
    def bos_id(self) -> int | None:
        """Id that begins a sequence."""
        ...

    @property
    def eos_id(self) -> int | None:
        """Id that ends a sequence."""
        ...

    @property
    def unk_id(self) -> int | None:
        """Id for text without a token."""
        ...

    @property
    def pad_id(self) -> int | None:
        """Id that fills up a sequence."""
        ...

    @property
    def eog_ids(self) -> frozenset[int]:
        """Every id that ends a generation."""
        ...

    @property
    def add_bos(self) -> bool:
        """Whether ``encode`` prepends BOS."""
        ...

    @property
    def add_eos(self) -> bool:
        """Whether ``encode`` appends EOS."""
        ...

    @property
    def adds_space_prefix(self) -> bool:
        """Whether ``encode`` puts a space before a text, which ``decode`` takes away again."""
        ...

    def encode(
        self,
        text: str,
        *,
        add_special: bool = True,
        parse_special: bool = False,
        limit: WorkLimit = NO_LIMIT,
    ) -> list[int]:
        """Token ids of ``text``.

        Args:
            text: any string; a lone surrogate is read as U+FFFD, a surrogate pair as its character.
            add_special: add BOS and EOS where the model wants them.
            parse_special: read the names of control tokens in ``text`` as these tokens. Leave it
                off for text of strangers. User-defined tokens are recognised either way.
            limit: stops the work.

        Raises:
            OperationCancelledError: the limit was reached; it is looked at every few milliseconds.
        """
        ...

    def special_fragments(self, text: str) -> list[str | int]:
        """``text`` cut at the names of control and user-defined tokens.

        Returns:
            What lies between as text, and the tokens' ids; joined in order they are ``text``, but
            for blanks that some tokens swallow.
        """
        ...

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of ``ids``; bytes that are no UTF-8 become U+FFFD.

        Args:
            ids: token ids.
            skip_special: leave control and unknown tokens out.

        Raises:
            TokenizerError: an id is outside the vocabulary.
        """
        ...

    def token_bytes(self, token_id: int, *, skip_special: bool = False) -> bytes:
        """The bytes that one token stands for: perhaps a part of a character, perhaps none.

        Raises:
            TokenizerError: the id is outside the vocabulary.
        """
        ...

    def token_text(self, token_id: int) -> str:
        """The vocabulary entry as the file writes it; empty for an id without a token.

        Raises:
            TokenizerError: the id is outside the vocabulary.
        """
        ...
