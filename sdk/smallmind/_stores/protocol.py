"""What a store of conversations can do, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from smallmind._chat_conversation import Turn, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatHead:
    """What there is of a conversation besides its turns.

    Attributes:
        session_id: its id.
        system: instructions before the first turn.
        window: what of it goes into the prompt.
        model: name of the model that answered last.
        model_fingerprint: of that model; token ids belong to it alone.
    """

    session_id: str
    system: str | None = None
    window: Window = field(default_factory=Window)
    model: str = ""
    model_fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChat:
    """A conversation as a store has it.

    Attributes:
        head: see there.
        turns: from the oldest to the newest.
        revision: grows by one with each writing.
    """

    head: ChatHead
    turns: tuple[Turn, ...]
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSummary:
    """A conversation in a list.

    Attributes:
        session_id: its id.
        turns: how many it has.
        updated_s: when it was written last, seconds since 1970.
        title: the beginning of what was said first; empty without turns.
        model: name of the model that answered last.
    """

    session_id: str
    turns: int
    updated_s: float
    title: str
    model: str


class ChatStore(Protocol):
    """Keeps conversations. Safe in several threads.

    Whoever writes names the revision that it has read; when the store has another one by now,
    somebody else has written, and ``ChatStoreError`` says so before anything is changed.
    """

    def load(self, session_id: str, /) -> StoredChat | None:
        """A conversation; None when there is none of that id."""
        ...

    def write(
        self, head: ChatHead, first: int, turns: Sequence[Turn], /, *, revision: int | None
    ) -> int:
        """Change a conversation in one step: wholly, or not at all.

        Args:
            head: put in the place of the one before; a new id begins a new conversation.
            first: turns from here on are taken away.
            turns: added at that place.
            revision: that was read; 0 for a new conversation, None to overwrite whatever there is.

        Returns:
            The new revision.

        Raises:
            ChatStoreError: somebody else has written, or the store failed.
        """
        ...

    def delete(self, session_id: str, /) -> bool:
        """Take a conversation away; answers whether there was one."""
        ...

    def chats(self) -> tuple[ChatSummary, ...]:
        """All conversations, the one written last first."""
        ...
