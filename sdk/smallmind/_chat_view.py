"""What a conversation shows of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from smallmind._chat_choice import ChatTemplate
from smallmind._chat_conversation import Message
from smallmind._chat_exchange import Exchange
from smallmind._chat_result import ChatResult
from smallmind._session import Session
from smallmind_engine.control import SingleUseGuard


class ChatView:
    """The base of ``ChatClient``.

    Args:
        session: takes its requests.
        exchange: the conversation itself.
    """

    def __init__(self, session: Session, exchange: Exchange) -> None:
        self._session = session
        self._exchange = exchange
        self._guard = SingleUseGuard(f"chat {self.session_id!r}")

    @property
    def session_id(self) -> str:
        """The id on its events, and its name in a store."""
        return self._session.session_id

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, whole, as copies."""
        return self._exchange.conversation.messages

    @property
    def turns(self) -> int:
        """How often the user has spoken."""
        return len(self._exchange.conversation.turns)

    @property
    def template(self) -> ChatTemplate:
        """What it is rendered with, and why."""
        return self._exchange.format.template

    @property
    def last_result(self) -> ChatResult | None:
        """The answer before; None when there was none."""
        return self._exchange.last

    @property
    def system(self) -> str | None:
        """Instructions before the first turn; may be set to others."""
        return self._exchange.conversation.system

    @system.setter
    def system(self, text: str | None) -> None:
        with self._guard():
            exchange = self._exchange
            exchange.change(dataclasses.replace(exchange.conversation, system=text))

    def render(self, messages: Sequence[Message] | None = None) -> str:
        """The prompt that a conversation becomes: this one, or ``messages``.

        Raises:
            ChatTemplateError: the template cannot render it.
        """
        with self._guard():
            shown = self.messages if messages is None else messages
            specs = [tool.spec for tool in self._exchange.tools]
            return self._exchange.format.render(shown, specs)
