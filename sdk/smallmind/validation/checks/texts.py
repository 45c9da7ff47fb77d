"""Texts that have gone wrong in tokenizers before."""

from __future__ import annotations

import unicodedata
from typing import Final

_PLAIN: Final = (
    "",
    "a",
    "The capital of France is Paris.",
    "def add(a, b):\n    return a + b\n",
    "1234567890 + 42 = ? 3.14159e-10 0xFF",
    "don't they'll I'M WE'VE",
    "snake_case camelCase SCREAMING-KEBAB /usr/bin/env https://example.org/?q=a&b=c#d",
    '{"key": [1, 2.5, null, true], "nested": {"a": "b\\n"}}',
)
_SPACES: Final = (
    " ",
    "  ",
    " leading",
    "trailing ",
    "a  b   c    d",
    "\n\n\ntext\n\n",
    "tab\tand\r\nwindows line",
    "no-break\u00a0space, em\u2003space, ideographic\u3000space, narrow\u202fone",
    "zero\u200bwidth\u200bspace\ufeff",
    "\u2028line\u2029paragraph\u0085next",
    " " * 70 + "x",
)
_UNICODE: Final = (
    "Grüße aus Köln, 東京 and Москва!",
    "مرحبا بالعالم",
    "שָׁלוֹם עֲלֵיכֶם",
    "हिन्दी में लिखा हुआ",
    "ภาษาไทยไม่มีช่องว่าง",
    "한국어 텍스트",
    "emoji: 😀 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 done",
    "Z\u0351\u036b\u0343a\u0363\u030al\u0300g\u0337o",
    "\U0001d56c\U0001d591\U0001d595\U0001d58d\U0001d586 𐍈 𠜎",
    "\U0010ffff \ufffd \uffff",
)
_FORMS: Final = tuple(
    unicodedata.normalize(form, "Å ﬁ é ① \uff46\uff55\uff4c\uff4c \u1e9b\u0323 ½")
    for form in ("NFC", "NFD", "NFKC", "NFKD")
)
_ODD: Final = (
    "\x00\x01\x1f\x7f",
    "".join(map(chr, range(0x80, 0x100))),
    "▁ is what some vocabularies write for a space",
    "<0x41> spells a byte in some vocabularies",
    "Ġ and Ċ spell a space and a line break in others",
    "a lone \ud800 surrogate",
    "x" * 300,
    "ab" * 150,
)

TEXTS: Final = (*_PLAIN, *_SPACES, *_UNICODE, *_FORMS, *_ODD)
"""Ordinary ones, spaces of all kinds, scripts, the forms of Unicode, and oddities."""
