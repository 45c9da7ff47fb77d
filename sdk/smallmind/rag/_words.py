"""The words of a question that count when texts are searched for them."""

from __future__ import annotations

from typing import Final

import regex

_WORD: Final = regex.compile(r"[\p{L}\p{M}\p{N}_]+")
MAX_TERMS: Final = 64

_COMMON: Final = """
    a about after all also am an and any are as at be because been before being but by can could
    did do does doing for from had has have having he her here hers him his how i if in into is it
    its itself just me more most my no nor not of off on once only or other our out over own same
    she should so some such than that the their them then there these they this those through to
    too under until up very was we were what when where which while who whom why will with would
    you your
"""
STOP_WORDS: Final = frozenset(_COMMON.split())


def terms_of(question: str) -> tuple[str, ...]:
    """The distinct words of a question, without those that are in every text.

    A question of nothing else keeps them. At most 64.
    """
    words = dict.fromkeys(_WORD.findall(question.casefold()))
    telling = [word for word in words if word not in STOP_WORDS]
    return tuple(telling or words)[:MAX_TERMS]
