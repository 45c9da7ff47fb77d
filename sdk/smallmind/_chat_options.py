"""Options of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from smallmind._chat_history import FullHistory, HistoryPolicy
from smallmind._chat_tools import ToolLike
from smallmind._stores import ChatStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How a conversation works.

    Attributes:
        session_id: appears on all its events, and is its name in a store; made up when None.
        system: instructions before the first turn.
        template: Jinja source instead of the model's own, the name of another template in the
            file, or that of a family: ``chatml``, ``llama3``, ``gemma`` and so on.
        strict_template: refuse a model without a template rather than guess its format.
        variables: more names for the template, such as ``{"enable_thinking": False}``.
        history: what happens when the conversation outgrows the context.
        tools: that the model may call in every turn: functions, ``Tool`` or JSON descriptions.
        tool_format: how the model writes calls; None to tell from the template.
        store: keeps every turn; a conversation of that ``session_id`` in it is taken up again.
    """

    session_id: str | None = None
    system: str | None = None
    template: str | None = None
    strict_template: bool = False
    variables: Mapping[str, object] = field(default_factory=dict)
    history: HistoryPolicy = field(default_factory=FullHistory)
    tools: tuple[ToolLike, ...] = ()
    tool_format: str | None = None
    store: ChatStore | None = None

    def __post_init__(self) -> None:
        """Take any sequence of tools."""
        object.__setattr__(self, "tools", tuple(self.tools))
