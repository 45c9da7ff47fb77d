"""Stores of conversations: what is kept, where, and how it is read again."""

from smallmind._stores.memory import InMemoryChatStore
from smallmind._stores.protocol import ChatHead, ChatStore, ChatSummary, StoredChat
from smallmind._stores.sqlite import SQLiteChatStore

__all__ = [
    "ChatHead",
    "ChatStore",
    "ChatSummary",
    "InMemoryChatStore",
    "SQLiteChatStore",
    "StoredChat",
]
