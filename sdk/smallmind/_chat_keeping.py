"""Keeping a conversation in a store, and taking it up again."""

from __future__ import annotations

import dataclasses

from smallmind._chat_conversation import Conversation
from smallmind._stores import ChatHead, ChatStore
from smallmind_engine.model import LoadedModel


class Keeper:
    """Knows what of a conversation is in its store, and writes what is not.

    Args:
        store: None to keep nothing.
        session_id: name of the conversation.
        model: token ids belong to it alone.
    """

    def __init__(self, store: ChatStore | None, session_id: str, model: LoadedModel) -> None:
        self.store = store
        self._session_id = session_id
        self._model = model
        self._written: Conversation | None = None
        self._revision = 0

    def load(self) -> Conversation | None:
        """The conversation in the store; None when there is none.

        The tokens of another model's answers are left out: they would mean something else.

        Raises:
            ChatStoreError: the store cannot be read.
        """
        stored = None if self.store is None else self.store.load(self._session_id)
        if stored is None:
            return None
        turns = stored.turns
        if stored.head.model_fingerprint != self._model.fingerprint:
            turns = tuple(dataclasses.replace(turn, trail=None) for turn in turns)
        conversation = Conversation(stored.head.system, turns, stored.head.window)
        self._written, self._revision = conversation, stored.revision
        return conversation

    def keep(self, conversation: Conversation) -> None:
        """Write what has changed since the last time, in one step.

        Raises:
            ChatStoreError: the store failed, or somebody else has written; the next call tries
                again.
        """
        if self.store is None:
            return
        before = self._written.turns if self._written is not None else ()
        first = 0
        for old, new in zip(before, conversation.turns, strict=False):
            if old is not new:
                break
            first += 1
        self._revision = self.store.write(
            self.head_of(conversation, self._session_id),
            first,
            conversation.turns[first:],
            revision=self._revision,
        )
        self._written = conversation

    def copy_to(self, store: ChatStore, session_id: str, conversation: Conversation) -> None:
        """Write the whole conversation elsewhere, over what is there.

        Raises:
            ChatStoreError: the store failed.
        """
        store.write(self.head_of(conversation, session_id), 0, conversation.turns, revision=None)

    def head_of(self, conversation: Conversation, session_id: str) -> ChatHead:
        """All of it but its turns."""
        return ChatHead(
            session_id=session_id,
            system=conversation.system,
            window=conversation.window,
            model=self._model.name,
            model_fingerprint=self._model.fingerprint,
        )
