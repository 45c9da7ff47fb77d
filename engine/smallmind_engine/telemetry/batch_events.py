"""The events of batches: what the steps of the model do for several requests at once."""

from __future__ import annotations

from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kinds import EventKind


@event
class BatchStepped(Event):
    """A step of the model ran for one or more requests. It has ids of its own.

    Attributes:
        sequences: requests that took part.
        prefill_tokens: tokens of prompts that were computed.
        decode_tokens: requests that got a token after their first one.
        duration_s: of the step, without what followed for each request.
        queue_depth: requests that waited to be admitted.
        running: admitted requests, those that waited for their readers included.
    """

    kind = EventKind.BATCH_STEPPED

    model: str
    sequences: int
    prefill_tokens: int
    decode_tokens: int
    duration_s: float
    queue_depth: int
    running: int
