"""What a report tells of: the requests of a log, and what happened around them."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from smallmind.replay import EventLog, ReplayReport
from smallmind_engine.telemetry import InferenceStopped, ModelLoadEnded
from smallmind_engine.telemetry.metrics import decode_rate

UNFINISHED = "unfinished"


@dataclass(slots=True)
class ReportedRequest:
    """A request as its events tell of it; times are nanoseconds on the log's clock.

    Attributes:
        begun_ns: when it was queued.
        admitted_ns: when it left the queue; None when it did not, or the event is missing.
        started_ns: when the prefill began; likewise.
        prefilled_ns: when the prompt was in the cache; likewise.
        latest_ns: of its latest event.
        stopped: its end; None when the log ends before.
        token_ns: when each token was known.
        engine_s: engine time before each token.
        consumer_s: time that the stream's reader took before each token.
    """

    request_id: str
    session_id: str | None
    trace_id: str
    model: str
    begun_ns: int
    admitted_ns: int | None = None
    started_ns: int | None = None
    prefilled_ns: int | None = None
    latest_ns: int = 0
    stopped: InferenceStopped | None = None
    token_ns: array[int] = field(default_factory=lambda: array("q"))
    engine_s: array[float] = field(default_factory=lambda: array("d"))
    consumer_s: array[float] = field(default_factory=lambda: array("d"))

    @property
    def status(self) -> str:
        """How it ended, in a word."""
        return UNFINISHED if self.stopped is None else self.stopped.status.value

    @property
    def duration_s(self) -> float:
        """From its submission to its end, or to its latest event."""
        if self.stopped is not None:
            return self.stopped.duration_s
        return (self.latest_ns - self.begun_ns) / 1e9

    @property
    def rate(self) -> float | None:
        """Tokens per second after the first one."""
        return None if self.stopped is None else decode_rate(self.stopped)


@dataclass(frozen=True, slots=True)
class Notable:
    """What happened besides requests, of one kind and reason.

    Attributes:
        count: how often.
        example: what the last one said.
        latest_ns: when that was.
    """

    what: str
    reason: str
    count: int
    example: str
    latest_ns: int


@dataclass(frozen=True, slots=True)
class LogContents:
    """All that a report shows.

    Attributes:
        log: where it comes from.
        replayed: whether anything is missing.
        begun_ns: of the first event; None when there is none.
        ended_ns: of the last one.
        loads: models that were loaded, or failed to.
        requests: in the order in which they were queued.
        notable: degradations, refusals, warnings, the most frequent first.
    """

    log: EventLog
    replayed: ReplayReport
    begun_ns: int | None
    ended_ns: int | None
    loads: tuple[ModelLoadEnded, ...]
    requests: tuple[ReportedRequest, ...]
    notable: tuple[Notable, ...]
