"""Turns events into the records of a trace: slices by request, counters, instants, kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from smallmind_engine.telemetry import (
    Event,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    KernelExecuted,
    KVCacheUsage,
    LogLevel,
    MemoryHighWater,
    ModelLoadEnded,
    ModelLoadStarted,
    PrefillEnded,
    RequestAdmitted,
    RequestQueued,
    RuntimeLogEvent,
    TokenGenerated,
)
from smallmind_engine.telemetry.eventlog import event_types
from smallmind_engine.telemetry.text import safe_str
from smallmind_exporters.chrome_trace.kernels import KernelTrack
from smallmind_exporters.chrome_trace.lanes import Lanes, Operation
from smallmind_exporters.chrome_trace.records import (
    ENGINE_TRACK,
    FIRST_STEP_KERNELS,
    SCHEDULER_TRACK,
    Clock,
    Record,
    complete,
    counter,
    instant,
    microseconds,
    process_name,
)

SHORTEST_STALL_S: Final = 1e-6
"""The reader of a stream is shown as a slice when it took longer than this."""


Show = Callable[["Tracks", Any, float], list[Record]]


class Tracks:
    """Knows what is open; ``records_of`` turns one event after the other into records."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._lanes = Lanes()
        self._named = False
        self._batches_us = 0.0
        self._step_kernels: dict[str, KernelTrack] = {}

    def records_of(self, event: Event) -> list[Record]:
        """The records for one event."""
        show = _SHOWN.get(type(event), Tracks.moment)
        records = [] if self._named else [process_name("smallmind")]
        if not self._named:
            records += self._lanes.named(ENGINE_TRACK, "engine")
            self._named = True
        if not isinstance(event, KernelExecuted):
            records += self._kernels_before(event)
        return records + show(self, event, self._clock.us(event.time_ns))

    def end_all(self) -> list[Record]:
        """End all that is open."""
        records = []
        for track in self._step_kernels.values():
            records += track.lay_out(self._clock)
        return records + self._lanes.end_all()

    # -- the life of a request ----------------------------------------------------------------

    def queued(self, event: RequestQueued, now: float) -> list[Record]:
        """Its slice begins, in the queue."""
        operation, records = self._begin(event, now)
        return [
            *records,
            *operation.enter("queue", now),
            counter("queue depth", now, waiting=event.queue_depth),
        ]

    def admitted(self, event: RequestAdmitted, now: float) -> list[Record]:
        """It left the queue."""
        operation, records = self._running(event, now)
        return [
            *records,
            *operation.enter("prepare", now, queue_s=event.queue_s),
            counter("queue depth", now, waiting=event.queue_depth),
            counter("requests in flight", now, running=event.in_flight),
        ]

    def started(self, event: InferenceStarted, now: float) -> list[Record]:
        """Its prefill begins."""
        operation, records = self._running(event, now)
        records += operation.enter("prefill", now)
        facts = {name: getattr(event, name) for name in ("operation", "streaming", "backend")}
        counts = {"prompt_tokens": event.prompt_tokens, "max_tokens": event.max_tokens}
        return [*records, instant(operation.track, "started", now, "request", **facts, **counts)]

    def prefilled(self, event: PrefillEnded, now: float) -> list[Record]:
        """Its prefill ended, and it decodes."""
        operation, records = self._running(event, now)
        return records + operation.enter(
            "decode",
            now,
            computed_tokens=event.computed_tokens,
            cached_tokens=event.cached_tokens,
            duration_s=event.duration_s,
        )

    def first_token(self, event: FirstToken, now: float) -> list[Record]:
        """A mark."""
        operation, records = self._running(event, now)
        ttft = event.time_to_first_token_s
        shown = instant(operation.track, "first token", now, "token", time_to_first_token_s=ttft)
        return [*records, shown]

    def token(self, event: TokenGenerated, now: float) -> list[Record]:
        """A mark, and a slice for the stream's reader when that took its time."""
        operation, records = self._running(event, now)
        if event.consumer_s > SHORTEST_STALL_S and operation.token_us is not None:
            longest = round(max(0.0, now - operation.token_us), 3)
            taken = min(microseconds(event.consumer_s), longest)
            records.append(
                complete(operation.track, "reader", operation.token_us, taken, "consumer")
            )
        operation.token_us = operation.latest_us = now
        args: dict[str, object] = {"engine_s": event.engine_s, "consumer_s": event.consumer_s}
        if event.token_id is not None:
            args["token_id"] = event.token_id
        name = f"token {event.index}"
        return [*records, instant(operation.track, name, now, "token", **args)]

    def stopped(self, event: InferenceStopped, now: float) -> list[Record]:
        """Its slice ends."""
        _, records = self._running(event, now)
        facts = {f"{phase}_s": seconds for phase, seconds in event.ledger} | {
            "status": event.status,
            "reason": event.reason,
            "error": event.error_type,
            "prompt_tokens": event.prompt_tokens,
            "cached_tokens": event.cached_tokens,
            "completion_tokens": event.completion_tokens,
            "duration_s": event.duration_s,
            "time_to_first_token_s": event.time_to_first_token_s,
        }
        return records + self._lanes.end(event.correlation.request_id, now, **facts)

    def _begin(self, event: Event, now: float) -> tuple[Operation, list[Record]]:
        ids = event.correlation
        return self._lanes.begin(
            ids.request_id,
            ids.request_id,
            now,
            request_id=ids.request_id,
            session_id=ids.session_id,
            trace_id=ids.trace_id,
            span_id=ids.span_id,
            model=getattr(event, "model", ""),
        )

    def _running(self, event: Event, now: float) -> tuple[Operation, list[Record]]:
        """Its operation; begun here when the event of its beginning was lost."""
        operation = self._lanes.of(event.correlation.request_id)
        if operation is not None:
            operation.latest_us = max(operation.latest_us, now)
            return operation, []
        return self._begin(event, now)

    # -- loading --------------------------------------------------------------------------------

    def load_started(self, event: ModelLoadStarted, now: float) -> list[Record]:
        """A slice begins."""
        name = f"load {event.model}"
        key = event.correlation.request_id
        _, records = self._lanes.begin(key, name, now, file_bytes=event.file_bytes)
        return records

    def load_ended(self, event: ModelLoadEnded, now: float) -> list[Record]:
        """It ends, with its phases inside."""
        operation, records = self._running(event, now)
        at = operation.begun_us
        for phase, seconds in event.phases:
            # Each phase is measured by itself; rounding must not push one out of the whole.
            taken = min(microseconds(seconds), round(now - at, 3))
            records.append(complete(operation.track, phase, at, taken, "load"))
            at = round(at + taken, 3)
        facts = ("architecture", "quantization", "backend", "parameters", "weight_bytes")
        return records + self._lanes.end(
            event.correlation.request_id,
            now,
            status=event.status,
            reason=event.reason,
            **{name: getattr(event, name) for name in facts},
        )

    # -- operations of the model ----------------------------------------------------------------

    def kernel(self, event: KernelExecuted, now: float) -> list[Record]:  # noqa: ARG002 - as the others
        """Keep it until its step is told whole: on the lane of its request, or the scheduler's."""
        key = event.correlation.request_id
        operation = self._lanes.of(key)
        track = self._step_kernels.get(key) if operation is None else operation.kernels
        if track is None:
            number = len(self._step_kernels)
            name = f"scheduler kernels {number + 1}" if number else "scheduler kernels"
            track = self._step_kernels[key] = KernelTrack(FIRST_STEP_KERNELS + number, name)
        track.add(event)
        return self._lanes.named(track.track, track.name)

    def _kernels_before(self, event: Event) -> list[Record]:
        """The operations that were told before ``event`` are whole steps now."""
        operation = self._lanes.of(event.correlation.request_id)
        records = [] if operation is None else operation.kernels.lay_out(self._clock)
        for track in self._step_kernels.values():
            records += track.lay_out(self._clock)
        return records

    # -- the rest -------------------------------------------------------------------------------

    def batch(self, event: Any, now: float) -> list[Record]:
        """A step of the model for several requests: a slice that ends now."""
        taken = microseconds(event.duration_s)
        begun = round(max(now - taken, self._batches_us), 3)
        self._batches_us = max(now, begun)
        names = ("sequences", "prefill_tokens", "decode_tokens", "duration_s", "running")
        return [
            *self._lanes.named(SCHEDULER_TRACK, "scheduler"),
            complete(
                SCHEDULER_TRACK,
                "prefill" if event.prefill_tokens else "decode",
                begun,
                round(self._batches_us - begun, 3),
                "batch",
                **{name: getattr(event, name) for name in names},
            ),
            counter("batch", now, sequences=event.sequences),
            counter("queue depth", now, waiting=event.queue_depth),
        ]

    def nothing(self, event: Event, now: float) -> list[Record]:  # noqa: ARG002 - as the others
        """For kinds that a trace does not show."""
        return []

    def memory_usage(self, event: Any, now: float) -> list[Record]:
        """A counter."""
        return [counter(f"memory: {event.category}", now, bytes=event.current_bytes)]

    def moment(self, event: Event, now: float) -> list[Record]:
        """Something worth a mark, on the lane of its request if that is running."""
        operation = self._lanes.of(event.correlation.request_id)
        track = ENGINE_TRACK if operation is None else operation.track
        name, args = _told(event)
        return [instant(track, name, now, "notable", **args)]

    def log(self, event: RuntimeLogEvent, now: float) -> list[Record]:
        """A mark for warnings and errors."""
        return self.moment(event, now) if event.level >= LogLevel.WARN else []

    def kv_usage(self, event: KVCacheUsage, now: float) -> list[Record]:
        """Counters."""
        return [
            counter("KV cache tokens", now, used=event.used_tokens),
            counter("KV cache bytes", now, used=event.used_bytes),
        ]

    def high_water(self, event: MemoryHighWater, now: float) -> list[Record]:
        """A counter."""
        name = f"most memory: {event.category}"
        return [counter(name, now, bytes=event.high_water_bytes)]


def _told(event: Event) -> tuple[str, dict[str, object]]:
    """Name and details of a notable event."""
    if isinstance(event, RuntimeLogEvent):
        args = {key: safe_str(value) for key, value in event.properties.items()}
        ids = {"component": event.component, "reason": event.reason, "error": event.error}
        return event.message, {**args, **ids}
    values = event._asdict()  # type: ignore[attr-defined]  # an event is a named tuple
    for name in ("sequence", "time_ns", "correlation"):
        del values[name]
    reason = getattr(event, "reason", None)
    return f"{type(event).__name__}{f' {reason}' if reason else ''}", values


def _own_kinds() -> dict[type[Event], Show]:
    """What is shown in a way of its own, by type; all other types are marks."""
    by_name: dict[str, Show] = {
        "RequestQueued": Tracks.queued,
        "RequestAdmitted": Tracks.admitted,
        "InferenceStarted": Tracks.started,
        "PrefillEnded": Tracks.prefilled,
        "FirstToken": Tracks.first_token,
        "TokenGenerated": Tracks.token,
        "InferenceStopped": Tracks.stopped,
        "ModelLoadStarted": Tracks.load_started,
        "ModelLoadProgress": Tracks.nothing,
        "ModelLoadEnded": Tracks.load_ended,
        "KernelExecuted": Tracks.kernel,
        "BatchStepped": Tracks.batch,
        "RuntimeLogEvent": Tracks.log,
        "KVCacheUsage": Tracks.kv_usage,
        "MemoryHighWater": Tracks.high_water,
        "MemoryUsage": Tracks.memory_usage,
        "Snapshot": Tracks.nothing,
        "RequestRecorded": Tracks.nothing,
    }
    known = event_types()
    return {known[name]: show for name, show in by_name.items() if name in known}


_SHOWN: Final = _own_kinds()
