"""The event of embedding: texts became vectors."""

from __future__ import annotations

from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kinds import EventKind
from smallmind_engine.telemetry.reasons import ReasonCode, RequestStatus


@event
class EmbeddingEnded(Event):
    """Texts were turned into vectors, or not.

    Attributes:
        reason: ``COMPLETED``, or why it ended before.
        error_type: class of the error, if there was one.
        pooling: how the states of a text's tokens became its vector.
        texts: that were asked for.
        tokens: of all texts, as far as they were cut into tokens.
        truncated: texts that were too long and were cut.
        dimension: numbers of a vector.
        queue_s: of the duration, spent waiting in the queue.
    """

    kind = EventKind.EMBEDDING_ENDED

    model: str
    backend: str
    status: RequestStatus
    reason: ReasonCode
    error_type: str
    pooling: str
    texts: int
    tokens: int
    truncated: int
    dimension: int
    queue_s: float
    duration_s: float
