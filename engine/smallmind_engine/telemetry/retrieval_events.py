"""The events of a retrieval: a search for the sources of an answer, and how to publish them.

They carry the ids of the request that the sources are for, so that a trace shows the search beside
the prefill and the decode. No event carries the question, or text of a source.
"""

from __future__ import annotations

from smallmind_engine.telemetry.bus import Emitter
from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kinds import EventKind
from smallmind_engine.telemetry.reasons import ReasonCode, RequestStatus


@event
class RetrievalStarted(Event):
    """A search for sources began.

    Attributes:
        data_source: name of the index that is searched.
        mode: ``lexical``, ``dense`` or ``hybrid``.
        top_k: sources that are asked for.
    """

    kind = EventKind.RETRIEVAL_STARTED

    data_source: str
    mode: str
    top_k: int


@event
class RetrievalEnded(Event):
    """A search for sources ended, in whatever way.

    Attributes:
        data_source: name of the index that was searched.
        mode: ``lexical``, ``dense`` or ``hybrid``.
        top_k: sources that were asked for.
        embedder: what turned the question into a vector; empty when nothing did.
        reason: why it did not complete, or why its sources are not good enough.
        error_type: class name of the error that ended it.
        candidates: chunks that were ranked; all of them may be seen by the user.
        returned: chunks that were given back.
        returned_bytes: their text in UTF-8.
        best_similarity: cosine of the question and the nearest chunk; None without vectors.
        phases: seconds by phase, in order, such as ``(("embed", 0.01), ("dense", 0.002))``.
    """

    kind = EventKind.RETRIEVAL_ENDED

    data_source: str
    mode: str
    top_k: int
    status: RequestStatus
    duration_s: float
    embedder: str = ""
    reason: ReasonCode | None = None
    error_type: str = ""
    candidates: int = 0
    returned: int = 0
    returned_bytes: int = 0
    best_similarity: float | None = None
    phases: tuple[tuple[str, float], ...] = ()


def publish_retrieval_started(emitter: Emitter, *, data_source: str, mode: str, top_k: int) -> None:
    """Tell that a search began, when someone wants to know."""
    if emitter.wants & EventKind.RETRIEVAL_STARTED:
        emitter.publish(
            RetrievalStarted(*emitter.header(), data_source=data_source, mode=mode, top_k=top_k)
        )


def publish_retrieval_ended(
    emitter: Emitter,
    *,
    data_source: str,
    mode: str,
    top_k: int,
    status: RequestStatus,
    duration_s: float,
    embedder: str = "",
    reason: ReasonCode | None = None,
    error_type: str = "",
    candidates: int = 0,
    returned: int = 0,
    returned_bytes: int = 0,
    best_similarity: float | None = None,
    phases: tuple[tuple[str, float], ...] = (),
) -> None:
    """Tell that a search ended, when someone wants to know."""
    if emitter.wants & EventKind.RETRIEVAL_ENDED:
        emitter.publish(
            RetrievalEnded(
                *emitter.header(),
                data_source=data_source,
                mode=mode,
                top_k=top_k,
                status=status,
                duration_s=duration_s,
                embedder=embedder,
                reason=reason,
                error_type=error_type,
                candidates=candidates,
                returned=returned,
                returned_bytes=returned_bytes,
                best_similarity=best_similarity,
                phases=phases,
            )
        )
