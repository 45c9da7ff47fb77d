"""The requests that a flight recorder logged, put together from their events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from smallmind_engine.grammar import from_record
from smallmind_engine.runtime import ContextOverflow, GenerationOptions
from smallmind_engine.telemetry import (
    Event,
    InferenceStopped,
    RequestRecorded,
    RequestStatus,
    StopReason,
    TokenGenerated,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """A request as the log tells of it.

    Attributes:
        request_id: its id.
        record: what it was asked.
        token_ids: what it answered; None for a token whose id is not in the log.
        reason: why it stopped; None when the log ends before it did.
        ended_by_itself: whether nothing but the request itself ended it, so that it will end in
            the same place again.
    """

    request_id: str
    record: RequestRecorded
    token_ids: tuple[int | None, ...]
    reason: StopReason | None
    ended_by_itself: bool

    @property
    def options(self) -> GenerationOptions:
        """The options to run it again with, to the token where it ended."""
        record = self.record
        most = record.max_tokens if self.ended_by_itself else max(1, len(self.token_ids))
        return GenerationOptions(
            max_tokens=most,
            seed=record.seed,
            stop=record.stop or (),
            ignore_eos=record.ignore_eos,
            logit_bias=dict(record.logit_bias) or None,
            response_format=(
                None if record.response_format is None else from_record(record.response_format)
            ),
            context_overflow=ContextOverflow(record.context_overflow or ContextOverflow.ERROR),
            **dict(record.options),  # type: ignore[arg-type]  # names and numbers of these fields
        )


@dataclass(slots=True)
class _Open:
    """A request whose end has not come yet."""

    record: RequestRecorded
    token_ids: list[int | None] = field(default_factory=list)


def recorded_requests(events: Iterable[Event]) -> Iterator[RecordedRequest]:
    """The recorded requests, in the order in which they ended; then those that had not.

    Args:
        events: of a log, such as ``EventLog.open(path).events()``.
    """
    running: dict[str, _Open] = {}
    for event in events:
        request_id = event.correlation.request_id
        if isinstance(event, RequestRecorded):
            running[request_id] = _Open(event)
        elif request_id not in running:
            continue
        elif isinstance(event, TokenGenerated):
            _put(running[request_id].token_ids, event)
        elif isinstance(event, InferenceStopped):
            yield _closed(request_id, running.pop(request_id), event)
    for request_id, request in running.items():
        yield _closed(request_id, request, None)


def _put(token_ids: list[int | None], event: TokenGenerated) -> None:
    """Note a token; those whose events were lost stay unknown."""
    missing = event.index - len(token_ids)
    token_ids.extend([None] * max(0, missing))
    if event.index == len(token_ids):
        token_ids.append(event.token_id)


def _closed(request_id: str, request: _Open, stopped: InferenceStopped | None) -> RecordedRequest:
    token_ids = request.token_ids
    if stopped is not None:
        token_ids.extend([None] * (stopped.completion_tokens - len(token_ids)))
    return RecordedRequest(
        request_id=request_id,
        record=request.record,
        token_ids=tuple(token_ids),
        reason=None if stopped is None else stopped.reason,
        ended_by_itself=stopped is not None and stopped.status is RequestStatus.COMPLETED,
    )
