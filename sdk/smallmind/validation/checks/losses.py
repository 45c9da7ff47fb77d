"""Whether a text came back from its tokens; and when not, whether the tokenizer is made so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from smallmind_engine.control import WorkLimit
from smallmind_engine.tokenizers import StreamingDetokenizer, Tokenizer

_SPACE_MARK: Final = "\u2581"
_NORMALISING: Final = frozenset({"wordpiece", "unigram"})
"""Kinds that change a text before they cut it."""


class Return(Enum):
    """What came back."""

    EXACT = auto()
    BY_DESIGN = auto()
    WRONG = auto()


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """What became of a text.

    Attributes:
        how: it came back.
        told: why not, when it did not; empty when it did.
    """

    how: Return
    told: str = ""


_EXACT: Final = RoundTrip(Return.EXACT)


def round_trip(tokenizer: Tokenizer, text: str, limit: WorkLimit) -> RoundTrip:
    """Tokenise a text, decode the ids, and look at what comes back.

    Args:
        tokenizer: to try.
        text: any.
        limit: stops the work.
    """
    ids = tokenizer.encode(text, add_special=False, limit=limit)
    outside = [token_id for token_id in ids if not 0 <= token_id < tokenizer.vocab_size]
    if outside:
        return _wrong(f"{_shown(text)} has the id {outside[0]}, outside the vocabulary")
    back = tokenizer.decode(ids)
    streamed = _streamed(tokenizer, ids)
    if streamed != back:
        return _wrong(f"{_shown(text)} decodes to {_shown(back)}, but streams {_shown(streamed)}")
    meant = _well_formed(text)
    if back == text:
        return _EXACT
    if back == meant:
        return RoundTrip(Return.BY_DESIGN, "a lone surrogate is read as U+FFFD")
    why = _reason_of_loss(tokenizer, meant, ids, back, limit)
    if why:
        return RoundTrip(Return.BY_DESIGN, why)
    return _wrong(f"{_shown(text)} came back as {_shown(back)}")


def _reason_of_loss(
    tokenizer: Tokenizer, text: str, ids: list[int], back: str, limit: WorkLimit
) -> str:
    """Why this tokenizer cannot give the text back; empty when it should have."""
    if _SPACE_MARK in text and back == text.replace(_SPACE_MARK, " "):
        return f"{_SPACE_MARK} is its sign for a space"
    if tokenizer.kind in _NORMALISING:
        if tokenizer.unk_id is not None and tokenizer.unk_id in ids:
            return "it has no tokens for some characters"
        again = tokenizer.encode(back, add_special=False, limit=limit)
        return "it changes texts before it cuts them" if again == ids else ""
    if not tokenizer.diagnostics.missing_bytes:
        return ""
    lost = {char for char in set(text) if _alone(tokenizer, char) != char}
    rest = "".join(char for char in text if char not in lost)
    if lost and rest != text and _alone(tokenizer, rest) == rest:
        return f"no token stands for {_shown(min(lost))}"
    return ""


def _alone(tokenizer: Tokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer.encode(text, add_special=False))


def _streamed(tokenizer: Tokenizer, ids: list[int]) -> str:
    stream = StreamingDetokenizer(tokenizer, skip_special=False)
    return "".join([*map(stream.push, ids), stream.flush()])


def _well_formed(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _wrong(told: str) -> RoundTrip:
    return RoundTrip(Return.WRONG, told)


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= 60 else f"{text[:50]!a}… ({len(text)} characters)"
