"""A conversation as data: its turns, what of them a prompt holds, and the tokens they became."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

Message = dict[str, object]
"""``role`` and ``content``, and whatever else the template reads, such as ``tool_calls``."""

SUMMARY_HEADING: Final = "Summary of the conversation so far:\n"
"""Stands before a summary where it goes into a prompt."""


@dataclass(frozen=True, slots=True)
class Trail:
    """The tokens of a conversation up to an answer: exactly those the model saw and produced.

    An answer that is tokenised again may become other tokens than the model produced. With the
    trail the next prompt goes on where the answer ended, and finds all of it in the KV cache.

    Attributes:
        continues: whether ``token_ids`` follow those of the turn before.
        token_ids: what was added: prompt and completion.
        text_chars: length of the text that all tokens up to here stand for.
        text_digest: of that text.
    """

    continues: bool
    token_ids: tuple[int, ...]
    text_chars: int
    text_digest: bytes


@dataclass(frozen=True, slots=True)
class Turn:
    """What a user said, and all that followed until the user's next word.

    Attributes:
        messages: the user's; then the model's, and those of tools in between.
        trail: its tokens; None where they are not known.
    """

    messages: tuple[Message, ...]
    trail: Trail | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a conversation that goes into the prompt.

    Attributes:
        first: the oldest turn that does; the system prompt always does.
        summary: stands for the turns before it.
    """

    first: int = 0
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """All of it, as it is kept.

    Attributes:
        system: instructions before the first turn.
        turns: from the oldest to the newest.
        window: what of them goes into the prompt.
    """

    system: str | None = None
    turns: tuple[Turn, ...] = field(default=())
    window: Window = field(default_factory=Window)

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything that was said, as copies, the system prompt first."""
        system = () if self.system is None else (system_message(self.system),)
        spoken = (message for turn in self.turns for message in turn.messages)
        return tuple(copy.deepcopy(message) for message in (*system, *spoken))

    def up_to(self, turns: int) -> Conversation:
        """Its first ``turns`` turns; the window opens again where it began after them."""
        window = self.window if self.window.first <= turns else Window()
        return replace(self, turns=self.turns[:turns], window=window)


def system_message(text: str) -> Message:
    """A message with instructions."""
    return {"role": "system", "content": text}


def user_message(text: str) -> Message:
    """A message by the user."""
    return {"role": "user", "content": text}


def prompt_messages(
    system: str | None, turns: Sequence[Sequence[Message]], window: Window
) -> list[Message]:
    """The messages that go into a prompt.

    A summary joins the system prompt, or, where there is none, the first user message: every
    template has a place for these.

    Args:
        system: instructions.
        turns: messages by turn, all of them.
        window: which of them to take.
    """
    spoken = [message for turn in turns[window.first :] for message in turn]
    if window.summary is None:
        return [*([] if system is None else [system_message(system)]), *spoken]
    summary = SUMMARY_HEADING + window.summary
    if system is not None:
        return [system_message(f"{system}\n\n{summary}"), *spoken]
    opening, *others = spoken
    return [{**opening, "content": f"{summary}\n\n{opening.get('content') or ''}"}, *others]


@dataclass(frozen=True, slots=True)
class Known:
    """Tokens that stand for the beginning of a prompt."""

    token_ids: tuple[int, ...]
    text_chars: int
    text_digest: bytes

    def begins(self, prompt: str) -> bool:
        """Whether ``prompt`` begins with the text that the tokens stand for."""
        return len(prompt) >= self.text_chars and (
            digest_of(prompt[: self.text_chars]) == self.text_digest
        )


def known_tokens(turns: Sequence[Turn]) -> Known | None:
    """The tokens of all ``turns``; None when those of the last one are not known."""
    parts: list[tuple[int, ...]] = []
    for turn in reversed(turns):
        if turn.trail is None:
            return None
        parts.append(turn.trail.token_ids)
        if not turn.trail.continues:
            break
    else:
        return None
    last = turns[-1].trail
    if last is None:  # pragma: no cover - the loop has seen it
        return None
    ids = tuple(token for part in reversed(parts) for token in part)
    return Known(ids, last.text_chars, last.text_digest)


def digest_of(text: str) -> bytes:
    """Identifies a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
