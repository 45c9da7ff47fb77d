"""Conversations: history policies, stores, templates and tools, beside ``Engine.chat``.

>>> from smallmind.chat import SlidingHistory, SQLiteChatStore
"""

from smallmind._chat import ChatClient
from smallmind._chat_choice import ChatTemplate, TemplateOrigin
from smallmind._chat_conversation import Message, Trail, Turn, Window
from smallmind._chat_families import FAMILIES, ChatFamily
from smallmind._chat_history import (
    FullHistory,
    HistoryPolicy,
    HistoryView,
    SlidingHistory,
    SummarizedHistory,
)
from smallmind._chat_options import ChatOptions
from smallmind._chat_result import ChatResult, ChatStream
from smallmind._chat_rounds import ToolRun
from smallmind._chat_tools import FORMATS, Tool, ToolCall, ToolFormat, ToolResult
from smallmind._stores import (
    ChatHead,
    ChatStore,
    ChatSummary,
    InMemoryChatStore,
    SQLiteChatStore,
    StoredChat,
)

__all__ = [
    "FAMILIES",
    "FORMATS",
    "ChatClient",
    "ChatFamily",
    "ChatHead",
    "ChatOptions",
    "ChatResult",
    "ChatStore",
    "ChatStream",
    "ChatSummary",
    "ChatTemplate",
    "FullHistory",
    "HistoryPolicy",
    "HistoryView",
    "InMemoryChatStore",
    "Message",
    "SQLiteChatStore",
    "SlidingHistory",
    "StoredChat",
    "SummarizedHistory",
    "TemplateOrigin",
    "Tool",
    "ToolCall",
    "ToolFormat",
    "ToolResult",
    "ToolRun",
    "Trail",
    "Turn",
    "Window",
]
