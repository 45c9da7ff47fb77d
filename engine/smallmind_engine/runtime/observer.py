"""What a request tells the bus. Each method tests the mask before it builds an event."""

from __future__ import annotations

from collections.abc import Sequence

from smallmind_engine.kernels import OnOperations, OperationTime
from smallmind_engine.model import LoadedModel
from smallmind_engine.runtime.ledger import TimeLedger
from smallmind_engine.runtime.options import Detail, GenerationOptions
from smallmind_engine.runtime.recording import recorded_request, sampling_of
from smallmind_engine.runtime.results import GenerationResult
from smallmind_engine.runtime.stalls import Stall
from smallmind_engine.runtime.telemetry_budget import TelemetryBudget
from smallmind_engine.runtime.telling import (
    tell_non_finite,
    tell_operations,
    tell_quality,
    tell_stall,
)
from smallmind_engine.sampling import Confidence
from smallmind_engine.telemetry import (
    BackpressureApplied,
    Degraded,
    DegradeReason,
    Emitter,
    EventKind,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    LogLevel,
    Phase,
    PrefillEnded,
    ReasonCode,
    RequestAdmitted,
    RequestQueued,
    RequestRejected,
    RequestStatus,
    RuntimeLogEvent,
    StopReason,
    TokenGenerated,
)

# Reading a member of an enum takes as long as calling a function; these are read for each token.
_TELEMETRY = Phase.TELEMETRY
_CONSUMER = Phase.CONSUMER
_TOKEN = int(EventKind.TOKEN_GENERATED)
_KERNEL = int(EventKind.KERNEL_EXECUTED)
_QUALITY = int(EventKind.TOKEN_QUALITY)
_STALL = int(EventKind.RUNTIME_STALL)
_SUMMARY = int(EventKind.INFERENCE_STOPPED)

_LEVELS = {
    RequestStatus.COMPLETED: LogLevel.INFO,
    RequestStatus.CANCELLED: LogLevel.INFO,
    RequestStatus.REJECTED: LogLevel.WARN,
    RequestStatus.FAILED: LogLevel.ERROR,
}

_STATUSES = {
    StopReason.CANCELLED_BY_CALLER: RequestStatus.CANCELLED,
    StopReason.CANCELLED_BY_TIMEOUT: RequestStatus.CANCELLED,
    StopReason.BACKPRESSURE_BUFFER_FULL: RequestStatus.CANCELLED,
    StopReason.BACKPRESSURE_QUEUE_FULL: RequestStatus.REJECTED,
    StopReason.MEMORY_BUDGET_EXCEEDED: RequestStatus.REJECTED,
    StopReason.ERROR: RequestStatus.FAILED,
}


def status_of(reason: StopReason) -> RequestStatus:
    """The status that goes with a stop reason."""
    return _STATUSES.get(reason, RequestStatus.COMPLETED)


class RequestObserver:
    """Publishes the life of one request, and books the time it takes.

    Args:
        emitter: of the request.
        ledger: of the request.
        model: name of the model.
        backend: name of the backend.
        operation: ``text_completion`` or ``chat``.
        streaming: whether the caller reads chunk by chunk.
        capture_content: whether events may carry token ids.
        detail: how much is told.
        budget: may tell less; None for one that never does.
    """

    __slots__ = (
        "_backend",
        "_budget",
        "_capture",
        "_consumer_ns",
        "_kernel_mask",
        "_last_token_ns",
        "_ledger",
        "_model",
        "_operation",
        "_quality_mask",
        "_streaming",
        "_token_mask",
        "emitter",
    )

    def __init__(
        self,
        emitter: Emitter,
        ledger: TimeLedger,
        *,
        model: str,
        backend: str,
        operation: str,
        streaming: bool,
        capture_content: bool,
        detail: Detail = Detail.TOKEN,
        budget: TelemetryBudget | None = None,
    ) -> None:
        self.emitter = emitter
        self._budget = budget
        self._ledger = ledger
        self._model = model
        self._backend = backend
        self._operation = operation
        self._streaming = streaming
        self._capture = capture_content
        self._token_mask = 0 if detail is Detail.REQUEST else _TOKEN
        self._quality_mask = 0 if detail is Detail.REQUEST else _QUALITY
        self._kernel_mask = _KERNEL if detail is Detail.KERNEL else 0
        self._last_token_ns = 0
        self._consumer_ns = 0

    def queued(self, depth: int) -> None:
        """The request stands in the queue."""
        emitter = self.emitter
        if emitter.wants & EventKind.REQUEST_QUEUED:
            emitter.publish(RequestQueued(*emitter.header(), model=self._model, queue_depth=depth))

    def admitted(self, depth: int, in_flight: int) -> None:
        """The request left the queue."""
        emitter = self.emitter
        if emitter.wants & EventKind.REQUEST_ADMITTED:
            emitter.publish(
                RequestAdmitted(
                    *emitter.header(),
                    model=self._model,
                    queue_s=self._ledger.ns(Phase.QUEUE) / 1e9,
                    queue_depth=depth,
                    in_flight=in_flight,
                )
            )

    def rejected(self, reason: ReasonCode, depth: int, limit: int) -> None:
        """The request was turned away."""
        emitter = self.emitter
        if emitter.wants & EventKind.REQUEST_REJECTED:
            emitter.publish(
                RequestRejected(
                    *emitter.header(),
                    model=self._model,
                    reason=reason,
                    queue_depth=depth,
                    limit=limit,
                )
            )

    def backpressure(self, reason: ReasonCode, policy: str, depth: int, limit: int) -> None:
        """A full queue or buffer had an effect."""
        emitter = self.emitter
        if emitter.wants & EventKind.BACKPRESSURE_APPLIED:
            emitter.publish(
                BackpressureApplied(
                    *emitter.header(),
                    model=self._model,
                    reason=reason,
                    policy=policy,
                    depth=depth,
                    limit=limit,
                )
            )

    def degraded(self, reason: DegradeReason, message: str) -> None:
        """The request gets less than it asked for."""
        emitter = self.emitter
        if emitter.wants & EventKind.DEGRADED:
            emitter.publish(
                Degraded(*emitter.header(), component="request", reason=reason, message=message)
            )

    def started(self, prompt_tokens: int, options: GenerationOptions) -> None:
        """The model begins to work."""
        emitter = self.emitter
        if emitter.wants & EventKind.INFERENCE_STARTED:
            emitter.publish(
                InferenceStarted(
                    *emitter.header(),
                    model=self._model,
                    backend=self._backend,
                    operation=self._operation,
                    streaming=self._streaming,
                    prompt_tokens=prompt_tokens,
                    max_tokens=options.max_tokens,
                    sampling=sampling_of(options),
                    seed=options.seed,
                )
            )

    def prefill_ended(self, computed_tokens: int, cached_tokens: int) -> None:
        """The prompt is in the cache."""
        emitter = self.emitter
        if emitter.wants & EventKind.PREFILL_ENDED:
            emitter.publish(
                PrefillEnded(
                    *emitter.header(),
                    model=self._model,
                    computed_tokens=computed_tokens,
                    cached_tokens=cached_tokens,
                    duration_s=self._ledger.ns(Phase.PREFILL) / 1e9,
                )
            )

    def recorded(
        self,
        model: LoadedModel,
        options: GenerationOptions,
        prompt_ids: Sequence[int],
        cached_tokens: int,
        seed: int,
    ) -> None:
        """The first token is about to be drawn; what is needed to draw it again."""
        emitter = self.emitter
        if emitter.wants & EventKind.REQUEST_RECORDED:
            emitter.publish(
                recorded_request(
                    emitter,
                    model,
                    options,
                    operation=self._operation,
                    prompt_ids=prompt_ids,
                    cached_tokens=cached_tokens,
                    seed=seed,
                    capture_content=self._capture,
                )
            )

    def first_token(self) -> float:
        """The first token is known; answers the seconds since submission."""
        elapsed_s = self._ledger.elapsed_ns / 1e9
        emitter = self.emitter
        if emitter.wants & EventKind.FIRST_TOKEN:
            emitter.publish(
                FirstToken(*emitter.header(), model=self._model, time_to_first_token_s=elapsed_s)
            )
        return elapsed_s

    def token(self, index: int, token_id: int) -> None:
        """A token is known. Hot: nothing happens here while nobody wants tokens."""
        emitter = self.emitter
        if not emitter.wants & self._token_mask:
            return
        budget = self._budget
        if budget is not None and budget.mask and budget.sheds(_TOKEN):
            return
        ledger = self._ledger
        before, elapsed, consumer = ledger.enter_and_read(_TELEMETRY, _CONSUMER)
        held_up = consumer - self._consumer_ns
        engine_s = (elapsed - self._last_token_ns - held_up) / 1e9
        shown_id = token_id if self._capture else None
        emitter.tell(TokenGenerated, self._model, index, engine_s, held_up / 1e9, shown_id)
        self._last_token_ns, self._consumer_ns = elapsed, consumer
        ledger.enter(before)

    def spent(self, spent_ns: int) -> None:
        """Finding out what the next event says took so long."""
        if self._budget is not None:
            self._budget.note(spent_ns)

    @property
    def wants_quality(self) -> bool:
        """Whether anyone wants to know how sure the model was."""
        return bool(self.emitter.wants & (self._quality_mask | _SUMMARY))

    def quality(self, index: int, found: Confidence, repetition: float) -> None:
        """How sure the model was of a token."""
        emitter, budget = self.emitter, self._budget
        if emitter.wants & self._quality_mask and not (budget and budget.sheds(_QUALITY)):
            tell_quality(emitter, self._model, index, found, repetition)

    def stalled(self, index: int, stall: Stall) -> None:
        """A step was late, and with it the token ``index``."""
        if self.emitter.wants & _STALL:
            before = self._ledger.enter(_TELEMETRY)
            tell_stall(self.emitter, self._model, index, stall)
            self._ledger.enter(before)

    def non_finite(self, where: str) -> None:
        """NaN or infinity ended the request; it first appeared at ``where``."""
        if self.emitter.wants & EventKind.LOG:
            tell_non_finite(self.emitter, self._model, where)

    @property
    def on_operations(self) -> OnOperations | None:
        """What a step of the model is to tell its operations to; None while nobody wants them."""
        if not self.emitter.wants & self._kernel_mask:
            return None
        if self._budget is not None and self._budget.sheds(_KERNEL):
            return None
        return self._operations

    def _operations(self, operations: Sequence[OperationTime]) -> None:
        before = self._ledger.enter(_TELEMETRY)
        tell_operations(self.emitter, self._model, self._backend, operations)
        self._ledger.enter(before)

    def stopped(
        self,
        result: GenerationResult,
        error: BaseException | None,
        kv_bytes: int,
        kv_tokens: int,
        *,
        quality: tuple[tuple[str, float], ...] = (),
        non_finite_at: str = "",
    ) -> None:
        """The request ended."""
        emitter = self.emitter
        status = status_of(result.stop_reason)
        error_type = "" if error is None else type(error).__name__
        if emitter.wants & EventKind.INFERENCE_STOPPED:
            emitter.publish(
                InferenceStopped(
                    *emitter.header(),
                    model=self._model,
                    backend=self._backend,
                    operation=self._operation,
                    streaming=self._streaming,
                    status=status,
                    reason=result.stop_reason,
                    error_type=error_type,
                    prompt_tokens=result.usage.prompt_tokens,
                    cached_tokens=result.usage.cached_tokens,
                    completion_tokens=result.usage.completion_tokens,
                    duration_s=result.timings.total_s,
                    time_to_first_token_s=result.timings.time_to_first_token_s,
                    ledger=tuple((p.value, s) for p, s in result.timings.ledger.items()),
                    kv_tokens=kv_tokens,
                    kv_bytes=kv_bytes,
                    quality=quality,
                    non_finite_at=non_finite_at,
                )
            )
        if emitter.wants & EventKind.LOG:
            emitter.publish(
                RuntimeLogEvent(
                    *emitter.header(),
                    level=_LEVELS[status],
                    component="runtime",
                    message="request stopped",
                    reason=ReasonCode(result.stop_reason.value),
                    error=error_type or None,
                    key1="status",
                    value1=status.value,
                    key2="prompt_tokens",
                    value2=result.usage.prompt_tokens,
                    key3="completion_tokens",
                    value3=result.usage.completion_tokens,
                    key4="duration_s",
                    value4=round(result.timings.total_s, 6),
                )
            )
