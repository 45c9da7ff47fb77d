"""One token a byte: the last resort, lossless and independent of any vocabulary."""

from __future__ import annotations

from typing import ClassVar, Final

from smallmind_engine.control import WorkLimit
from smallmind_engine.telemetry.errors import TokenizerError
from smallmind_engine.telemetry.reasons import ReasonCode
from smallmind_engine.tokenizers.base import VocabularyTokenizer

_CHUNK: Final = 65_536


class ByteTokenizer(VocabularyTokenizer):
    """Encodes text as the tokens of its UTF-8 bytes.

    Over a model's vocabulary these are its byte tokens; without one, the ids 0 to 255.
    Decoding knows every token of the vocabulary.
    """

    kind: ClassVar = "byte"

    def _encode_text(self, text: str, ids: list[int], limit: WorkLimit) -> None:
        data = text.encode()
        for start in range(0, len(data), _CHUNK):
            limit.check("tokenising")
            chunk = data[start : start + _CHUNK]
            for byte in sorted(set(chunk)):
                if self._byte_ids[byte] is None and self.unk_id is None:
                    raise TokenizerError(
                        ReasonCode.TOKENIZER_VOCAB_PARTIAL,
                        f"the vocabulary of {self.vocab_size} tokens has none for byte {byte:#04x}",
                        hint="leave the byte out, or convert the model again with its tokenizer",
                        byte=byte,
                    )
            ids += self._ids_of_bytes(chunk)
