"""How BERT cuts text into words before any piece is looked up.

Control characters vanish, white space of all kinds separates, Chinese characters and punctuation
stand alone, and models without upper case see neither case nor accents.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from smallmind_engine.control import WorkLimit
from smallmind_engine.tokenizers.bert_characters import FORMER_CATEGORIES, LATE_CHARACTERS

_BLOCK: Final = 32_768
"""Characters that are normalised at once; some milliseconds."""

_WORD_BOUNDARY: Final = re.compile("[\\s\u3400-\u4dbf\u4e00-\u9fff]")
"""Characters before which a text can be cut without changing its words."""

# The sixth block begins at U+2B820. The reference has U+2B920 there, and models were trained so.
_CHINESE: Final = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_LAST_ASCII: Final = 0x7F
_REPLACEMENT: Final = "\ufffd"
_CONTROLS: Final = frozenset({"Cc", "Cf", "Co", "Cs"})
_BLANKS: Final = frozenset({"Zs", "Zl", "Zp"})


class BertNormalizer:
    """Cuts text into normalised words. Safe in many threads.

    Args:
        lowercase: whether letters lose their case.
        strip_accents: whether letters lose their accents.

    Source: Devlin et al. 2018, the basic tokenizer of its code; as in Hugging Face tokenizers.
    """

    def __init__(self, *, lowercase: bool, strip_accents: bool) -> None:
        self._decompose = strip_accents
        self._table = _CharacterTable(lowercase=lowercase, strip_accents=strip_accents)

    def words(self, text: str, limit: WorkLimit) -> Iterator[str]:
        """The words of ``text``, in order.

        Raises:
            OperationCancelledError: the limit was reached.
        """
        for block in _blocks(text):
            limit.check("tokenising")
            normal = unicodedata.normalize("NFD", block) if self._decompose else block
            yield from normal.translate(self._table).split()


class _CharacterTable(dict[int, str]):
    """What becomes of each character, worked out when it is first met, for ``str.translate``."""

    def __init__(self, *, lowercase: bool, strip_accents: bool) -> None:
        super().__init__()
        self._lowercase = lowercase
        self._strip_accents = strip_accents

    def __missing__(self, code: int) -> str:
        self[code] = replacement = self._replacement(chr(code))
        return replacement

    def _replacement(self, char: str) -> str:
        category = FORMER_CATEGORIES.get(char) or unicodedata.category(char)
        if ord(char) in LATE_CHARACTERS:
            category = "Lo"
        if char in "\t\n\r" or category in _BLANKS:
            return " "
        if char == _REPLACEMENT or category in _CONTROLS:
            return ""
        if self._strip_accents and category == "Mn":
            return ""
        shown = char.lower() if self._lowercase else char
        return f" {shown} " if _stands_alone(char, category) else shown


def _stands_alone(char: str, category: str) -> bool:
    """Whether a character is a word of its own; of ASCII, all that is no letter or digit."""
    code = ord(char)
    if code <= _LAST_ASCII:
        return not char.isalnum()
    return category.startswith("P") or any(low <= code <= high for low, high in _CHINESE)


def _blocks(text: str) -> Iterator[str]:
    """Cut a long text where that changes no word."""
    begin = 0
    while len(text) - begin > _BLOCK:
        boundary = _WORD_BOUNDARY.search(text, begin + _BLOCK)
        if boundary is None:
            break
        yield text[begin : boundary.start()]
        begin = boundary.start()
    yield text[begin:]
