"""What a caller asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from smallmind_engine.runtime.kv_slot import CacheSlot
from smallmind_engine.runtime.options import GenerationOptions

TEXT_COMPLETION: Final = "text_completion"
CHAT: Final = "chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What to continue, and how.

    Attributes:
        prompt: text, or token ids that are taken as they are.
        options: how.
        slot: a session's cache; None for a request on its own.
        prefix_ids: tokens of the session before the prompt.
        add_special: whether to begin with the model's beginning-of-sequence token.
        session_id: for the correlation.
        operation: ``text_completion`` or ``chat``.
        streaming: whether the caller reads chunk by chunk.
        default_buffer: of the stream, when the options name none; 0 goes in step with the reader.
    """

    prompt: str | Sequence[int]
    options: GenerationOptions
    slot: CacheSlot | None = None
    prefix_ids: Sequence[int] = ()
    add_special: bool = True
    session_id: str | None = None
    operation: str = TEXT_COMPLETION
    streaming: bool = False
    default_buffer: int = 0
