"""Turns as text and bytes, and back: JSON for messages, plain numbers for tokens."""

from __future__ import annotations

import json
import sys
from array import array
from typing import Final

from smallmind._chat_conversation import Message, Trail, Turn
from smallmind._template_sandbox import plain_data
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import ChatStoreError

_TITLE_CHARS: Final = 60
_TOKEN_BYTES: Final = 4
_ENTRY: Final = "i"  # an array's 32-bit signed integers


def messages_to_json(messages: tuple[Message, ...]) -> str:
    """Messages as JSON.

    Raises:
        ChatTemplateError: one holds what is no plain data.
    """
    return json.dumps(plain_data(list(messages), "messages"))


def messages_from_json(text: str | bytes) -> tuple[Message, ...]:
    """Messages from JSON; raises ``ChatStoreError`` when it is something else."""
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(f"messages are no JSON: {error}") from error
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        raise damaged("messages are no list of objects")
    return tuple(messages)


def ids_to_bytes(token_ids: tuple[int, ...]) -> bytes:
    """Token ids as 32-bit integers, the lowest byte first."""
    ids = array(_ENTRY, token_ids)
    if sys.byteorder == "big":  # pragma: no cover - our machines are not
        ids.byteswap()
    return ids.tobytes()


def ids_from_bytes(data: bytes) -> tuple[int, ...]:
    """Token ids from ``ids_to_bytes``; raises ``ChatStoreError`` when they cannot be."""
    if len(data) % _TOKEN_BYTES:
        raise damaged(f"token ids of {len(data)} bytes are no whole number of ids")
    ids = array(_ENTRY)
    ids.frombytes(data)
    if sys.byteorder == "big":  # pragma: no cover - our machines are not
        ids.byteswap()
    return tuple(ids)


def trail_of(continues: object, ids: object, chars: object, digest: object) -> Trail | None:
    """A trail from its columns; None when one is missing."""
    if not isinstance(ids, bytes) or not isinstance(digest, bytes) or not isinstance(chars, int):
        return None
    return Trail(bool(continues), ids_from_bytes(ids), chars, digest)


def title_of(turns: tuple[Turn, ...]) -> str:
    """The beginning of what was said first, in one line."""
    if not turns or not turns[0].messages:
        return ""
    text = " ".join(str(turns[0].messages[0].get("content") or "").split())
    return text if len(text) <= _TITLE_CHARS else text[: _TITLE_CHARS - 1] + "…"


def damaged(why: str) -> ChatStoreError:
    """The error for content that cannot be read."""
    return ChatStoreError(
        ReasonCode.CHAT_STORE_FAILED,
        f"the store holds a conversation that cannot be read: {why}",
        hint="delete that conversation, or go back to a copy of the file",
    )


def conflict(session_id: str, read: int, found: int) -> ChatStoreError:
    """The error for a conversation that somebody else has changed."""
    return ChatStoreError(
        ReasonCode.CHAT_STORE_CONFLICT,
        f"the conversation {session_id!r} has revision {found}, not {read} as when it was read",
        hint="somebody else writes it too: open it again, or use another session_id",
        session_id=session_id,
        read=read,
        found=found,
    )
