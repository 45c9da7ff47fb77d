"""A store that lives as long as its process."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Sequence

from smallmind._chat_conversation import Turn
from smallmind._stores.protocol import ChatHead, ChatSummary, StoredChat
from smallmind._stores.records import conflict, title_of


class InMemoryChatStore:
    """Keeps conversations in memory. Thread-safe.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._chats: dict[str, tuple[StoredChat, float]] = {}

    def load(self, session_id: str, /) -> StoredChat | None:
        """See ``ChatStore.load``."""
        with self._lock:
            found = self._chats.get(session_id)
        return None if found is None else copy.deepcopy(found[0])

    def write(
        self, head: ChatHead, first: int, turns: Sequence[Turn], /, *, revision: int | None
    ) -> int:
        """See ``ChatStore.write``."""
        with self._lock:
            found = self._chats.get(head.session_id)
            now = 0 if found is None else found[0].revision
            if revision is not None and revision != now:
                raise conflict(head.session_id, revision, now)
            kept = () if found is None else found[0].turns[:first]
            chat = StoredChat(
                head=head, turns=(*kept, *copy.deepcopy(tuple(turns))), revision=now + 1
            )
            self._chats[head.session_id] = (chat, self._clock())
            return chat.revision

    def delete(self, session_id: str, /) -> bool:
        """See ``ChatStore.delete``."""
        with self._lock:
            return self._chats.pop(session_id, None) is not None

    def chats(self) -> tuple[ChatSummary, ...]:
        """See ``ChatStore.chats``."""
        with self._lock:
            found = list(self._chats.values())
        found.sort(key=lambda each: -each[1])
        return tuple(
            ChatSummary(
                session_id=chat.head.session_id,
                turns=len(chat.turns),
                updated_s=updated_s,
                title=title_of(chat.turns),
                model=chat.head.model,
            )
            for chat, updated_s in found
        )
