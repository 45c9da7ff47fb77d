"""Makes text from documents harmless in a prompt: it can neither leave its place nor give orders.

Three ways out are closed: the delimiters around a source, the marks of citations, and the control
tokens of the model, which the chat format would read as the end of a turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

_DELIMITERS: Final = re.compile(r"<(?=\s*/?\s*(?:source|sources|question)\b)", re.IGNORECASE)
_MARKS: Final = re.compile(r"\[(\s*S\d+(?:\s*[,;]\s*S\d+)*\s*)\]", re.IGNORECASE)
_ROLES: Final = re.compile(r"<(?=\|)|(?<=\|)>|\[(?=/?INST\])|<(?=</?SYS>>)", re.IGNORECASE)
_STAND_INS: Final = {
    "<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
    ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
    "[": "(",
}
_BREAK: Final = "\N{ZERO WIDTH SPACE}"
_TRIES: Final = 32


class ReadsTokens(Protocol):
    """What is needed of an engine."""

    def tokenize(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Token ids of ``text``."""
        ...

    def detokenize(self, token_ids: list[int]) -> str:
        """Text of ``token_ids``."""
        ...


def escaped(text: str) -> str:
    """``text`` without delimiters, citation marks and the usual signs of roles."""
    text = _DELIMITERS.sub(_STAND_INS["<"], text)
    text = _MARKS.sub(r"(\1)", text)
    return _ROLES.sub(lambda match: _STAND_INS[match[0]], text)


def without_control_tokens(text: str, engine: ReadsTokens) -> str:
    """``text`` in which the engine's tokenizer finds no control token.

    It asks the tokenizer itself, so no list of names can be out of date.
    """
    for _ in range(_TRIES):
        plain = engine.tokenize(text)
        special = engine.tokenize(text, parse_special=True)
        if plain == special:
            return text
        names = {engine.detokenize([token]) for token in set(special) - set(plain)}
        broken = text
        for name in names:
            if len(name) > 1:
                broken = broken.replace(name, name[0] + _BREAK + name[1:])
        if broken == text:
            break
        text = broken
    # Nothing is left to try but to take away what control tokens are made of.
    return re.sub(r"[<>|\[\]]", " ", text)


def harmless(engine: ReadsTokens) -> Callable[[str], str]:
    """Does both, for the prompts of one engine."""
    return lambda text: without_control_tokens(escaped(text), engine)
