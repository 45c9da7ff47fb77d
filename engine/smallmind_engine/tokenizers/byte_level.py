"""The byte-level alphabet: every byte has one printable character, so any text is a word of it.

Source: Radford et al. 2019 (GPT-2), section 2.2: BPE over bytes; bytes that print keep their
own character, the other 68 take U+0100 onwards in order.
"""

from __future__ import annotations

from typing import Final


def _alphabet() -> tuple[str, ...]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in printable else chr(next(rest)) for byte in range(256))


BYTE_TO_CHAR: Final = _alphabet()
"""Character of each byte; index is the byte."""

CHAR_TO_BYTE: Final = {char: bytes([byte]) for byte, char in enumerate(BYTE_TO_CHAR)}
"""The byte of each character, as a bytes object of length 1."""

_TRANSLATION: Final = dict(enumerate(BYTE_TO_CHAR))


def to_byte_level(text: str) -> str:
    """Spell the UTF-8 bytes of ``text`` in the byte-level alphabet.

    >>> to_byte_level("é a")
    'Ã©Ġa'
    """
    return text.encode().decode("latin-1").translate(_TRANSLATION)


def from_byte_level(text: str) -> bytes:
    r"""The bytes that a byte-level word spells; foreign characters stand for their own UTF-8.

    >>> from_byte_level("ÃÂ©Ġa")
    b'\xc3\xc2\xa9 a'
    """
    return b"".join(CHAR_TO_BYTE.get(char) or text_bytes(char) for char in text)


def text_bytes(text: str) -> bytes:
    """The bytes of a vocabulary entry, undoing the ``surrogateescape`` of the file reader."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A high surrogate cannot come from bytes; only hand-made metadata holds one.
        return well_formed(text).encode()


def well_formed(text: str) -> str:
    r"""``text`` as UTF-8 can carry it: surrogate pairs are joined, lone surrogates become U+FFFD.

    >>> well_formed("a\ud83d\ude00b\ud800") == "a\U0001f600b\ufffd"
    True
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
