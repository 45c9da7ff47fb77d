"""Detokenising while tokens arrive: text comes out in whole characters only."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from smallmind_engine.tokenizers.protocol import Tokenizer


class StreamingDetokenizer:
    """Turns ids into text one by one. Belongs to one thread.

    What ``push`` and ``flush`` return, put together, is ``decode`` of the same ids.

    Args:
        tokenizer: of the ids.
        skip_special: leave control and unknown tokens out.
        prompt_ids: what the ids continue. After a prompt with text, the space that a vocabulary
            writes before a word is a real one and stays.
        keep_space: let it stay in any case.
    """

    __slots__ = ("_at_start", "_held", "_skip_special", "_tokenizer")

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special: bool = True,
        prompt_ids: Sequence[int] = (),
        keep_space: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        # Holds back the bytes of an unfinished character; bytes that can be none become U+FFFD.
        self._held = b""
        self._at_start = (
            tokenizer.adds_space_prefix
            and not keep_space
            and not any(
                tokenizer.token_bytes(token_id, skip_special=skip_special)
                for token_id in prompt_ids
            )
        )

    def push(self, token_id: int) -> str:
        """The characters that ``token_id`` completes; empty when it completes none.

        Raises:
            TokenizerError: the id is outside the vocabulary.
        """
        piece = self._tokenizer.token_bytes(token_id, skip_special=self._skip_special)
        if self._at_start and (piece or not self._skip_special):
            piece = piece.removeprefix(b" ")
            self._at_start = False
        return self._decoded(piece)

    def flush(self) -> str:
        """What is left of an unfinished character, as U+FFFD; the stream may go on after it."""
        return self._decoded(b"", final=True)

    def _decoded(self, piece: bytes, *, final: bool = False) -> str:
        """As the codec's own incremental decoder does it, in a third of the time."""
        content = self._held + piece
        text, consumed = codecs.utf_8_decode(content, "replace", final)
        self._held = content[consumed:]
        return text
