"""One request as the scheduler sees it: what it needs next, and what a step's answer does to it."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from smallmind_engine.cache import KVCache
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.kernels import Chunk, LogitsWanted, Output
from smallmind_engine.model import LoadedModel
from smallmind_engine.runtime.decoding import Completion, TokenMaker
from smallmind_engine.runtime.kv_slot import CacheSlot, LendingPlan
from smallmind_engine.runtime.kv_store import KVStore
from smallmind_engine.runtime.ledger import TimeLedger
from smallmind_engine.runtime.non_finite import locate_non_finite
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.runtime.options import BackpressurePolicy, ContextOverflow
from smallmind_engine.runtime.outlet import Outlet
from smallmind_engine.runtime.overflow import slid
from smallmind_engine.runtime.quality import QualityMeter
from smallmind_engine.runtime.request import GenerationRequest
from smallmind_engine.runtime.results import GenerationResult, StreamChunk
from smallmind_engine.telemetry import DegradeReason, Phase, ReasonCode, StopReason
from smallmind_engine.telemetry.errors import BackpressureError, InferenceError


class Stage(Enum):
    """What a request is about."""

    NEW = auto()  # its caller's: not submitted
    QUEUED = auto()  # waits to be admitted
    PREFILL = auto()  # has tokens that are not in its cache
    DECODE = auto()  # needs the next token
    PAUSED = auto()  # waits for its reader
    ENDED = auto()


# Reading a member of an enum takes as long as calling a function; these are read for each token.
PREFILL: Final = Stage.PREFILL
DECODE: Final = Stage.DECODE
PAUSED: Final = Stage.PAUSED
ENDED: Final = Stage.ENDED
_SAMPLING: Final = Phase.SAMPLE
_DECODING: Final = Phase.DECODE
_PREFILLING: Final = Phase.PREFILL
_BLOCK: Final = BackpressurePolicy.BLOCK.value


class RequestWork:
    """Belongs to its caller until it is submitted, and then to the scheduler's thread.

    Args:
        request: what to do.
        model: does it.
        store: lends the cache.
        ledger: of the request.
        observer: of the request.
        token: stops it; its own.
        outlet: where its chunks go.
        quality_signals: whether its tokens are measured.

    Attributes:
        stage: what it is about.
        sequence: all its tokens, those that slid out left out.
        cached_tokens: of the prompt, found in a cache.
        computed_tokens: of prompts, computed.
        admitted: whether it left the queue to run.
        known: whether the scheduler has seen it.
        abort_reason: set by its caller, who does not want it any more.
        abort_failure: the exception that made the caller give up.
        in_step: whether a step works on it now.
        stepped_ns: when it last took part in a step.
        submitted_ns: when it came into the queue.
        paused_ns: when it began to wait for its reader.
        result: what came out; None until it ended.
        failure: what its caller is to be told with an exception.
        non_finite_at: where NaN or infinity first appeared, when that ended it.
    """

    __slots__ = (
        "_maker",
        "_quality",
        "_room",
        "_verdict",
        "_waits",
        "_wants_quality",
        "abort_failure",
        "abort_reason",
        "admitted",
        "cache",
        "cached_tokens",
        "completion",
        "computed_tokens",
        "failure",
        "forget_token",
        "in_step",
        "known",
        "ledger",
        "lent",
        "limit",
        "model",
        "non_finite_at",
        "observer",
        "outlet",
        "paused_ns",
        "prompt_tokens",
        "request",
        "result",
        "sequence",
        "slot",
        "stage",
        "stepped_ns",
        "store",
        "submitted_ns",
        "token",
    )

    def __init__(
        self,
        request: GenerationRequest,
        model: LoadedModel,
        store: KVStore,
        ledger: TimeLedger,
        observer: RequestObserver,
        token: CancellationToken,
        outlet: Outlet,
        *,
        quality_signals: bool = False,
    ) -> None:
        self.request: Final = request
        self.model: Final = model
        self.store: Final = store
        self.ledger: Final = ledger
        self.observer: Final = observer
        self.token: Final = token
        self.limit: Final = WorkLimit.within(request.options.request_timeout, token)
        self.outlet: Final = outlet
        self.slot: Final = request.slot or CacheSlot()
        self.completion: Final = Completion()
        self.stage = Stage.NEW
        self.sequence: list[int] = []
        self.prompt_tokens = 0
        self.cache: KVCache | None = None
        self.cached_tokens = 0
        self.computed_tokens = 0
        self.admitted = False
        self.known = False
        self.lent = False
        self.in_step = False
        self.stepped_ns = 0
        self.submitted_ns = 0
        self.paused_ns = 0
        self.abort_reason: StopReason | None = None
        self.abort_failure: BaseException | None = None
        self.result: GenerationResult | None = None
        self.failure: BaseException | None = None
        self.forget_token = _nothing
        self.non_finite_at = ""
        self._maker: TokenMaker | None = None
        self._wants_quality: Final = quality_signals
        self._quality: QualityMeter | None = None
        self._waits: Final = request.options.backpressure is BackpressurePolicy.BLOCK
        self._verdict: StopReason | None = None
        self._room = 0

    # -- what it needs ------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Tokens that its cache is to hold in the end."""
        wanted = len(self.sequence) + self._tokens_left
        return min(wanted, self.model.context_length)

    @property
    def _tokens_left(self) -> int:
        return self.request.options.max_tokens - len(self.completion.token_ids)

    @property
    def missing(self) -> int:
        """Tokens of the sequence that are not in the cache."""
        return len(self.sequence) - len(self.slot.token_ids)

    @property
    def why_stop(self) -> StopReason | None:
        """Why it is to end without a further step: its caller's wish, or its deadline."""
        if self.abort_reason is not None:
            return self.abort_reason
        reason = self.limit.exceeded
        return None if reason is None else StopReason(reason.value)

    @property
    def seed(self) -> int:
        """With which the draws can be repeated; 0 before the first."""
        return 0 if self._maker is None else self._maker.seed

    @property
    def quality(self) -> tuple[tuple[str, float], ...]:
        """Means of the quality signals, by name; empty when they were not measured."""
        return () if self._quality is None else self._quality.means

    def chunk(self, count: int) -> Chunk:
        """The next ``count`` tokens of the sequence, for a step."""
        if self.cache is None:  # pragma: no cover - it was lent when it was admitted
            raise AssertionError
        begin = len(self.slot.token_ids)
        end = begin + count
        if end < len(self.sequence):
            wanted = LogitsWanted.NONE
        elif self._maker is None:
            wanted = LogitsWanted.LAST
        else:
            wanted = self._maker.wanted
        return Chunk(self.sequence[begin:end], self.cache, wanted)

    # -- what happens to it -------------------------------------------------------------------

    def begin(self, plan: LendingPlan) -> None:
        """Come to its cache.

        Raises:
            MemoryBudgetError: the budget does not hold it.
        """
        observer = self.observer
        self.ledger.enter(Phase.PREFILL)
        self.cache, self.cached_tokens = self.store.lend(plan, observer.emitter)
        self.lent = True
        self._room = min(self.cache.capacity, self.model.context_length)
        self.stage = PREFILL
        if self.cache.capacity < self.capacity:
            observer.degraded(
                DegradeReason.MEMORY_BUDGET_SOFT_LIMIT,
                f"the KV cache holds {self.cache.capacity} of {self.capacity} tokens",
            )
        observer.started(self.prompt_tokens, self.request.options)

    def advance(self, count: int, answer: Output) -> StopReason | None:
        """Take a step's answer; says why the request ends, when it does. Hot path.

        Raises:
            SmallMindError: the answer is of no use, or an option is none for this model.
        """
        held = self.slot.token_ids
        begin = len(held)
        held += self.sequence[begin : begin + count]
        if self.stage is PREFILL:
            self.computed_tokens += count
            if begin + count < len(self.sequence):
                self.ledger.enter(_PREFILLING)
                return None
            self._end_prefill()
        else:
            self.completion.decode_steps += 1
        self.ledger.enter(_SAMPLING)
        maker = self._maker
        if maker is None:  # pragma: no cover - made when the prefill ended
            raise AssertionError
        try:
            text = maker.make(answer)
        except InferenceError as error:
            self.non_finite_at = locate_non_finite(error, self.model, held)
            if self.non_finite_at:
                self.observer.non_finite(self.non_finite_at)
            raise
        if text is None:
            return StopReason.COMPLETED
        self.sequence.append(self.completion.token_ids[-1])
        self._verdict = maker.verdict()
        if self.outlet.limit is not None and not self._pass_on(maker.chunk(text)):
            self._pause()
            return None
        return self._go_on()

    def _end_prefill(self) -> None:
        self.store.share(self.slot, self.observer.emitter)
        if self._maker is not None:  # the sequence slid; its request goes on as it was
            return
        self.ledger.enter(_SAMPLING)
        self.observer.prefill_ended(self.computed_tokens, self.cached_tokens)
        if self._wants_quality and self.observer.wants_quality:
            self._quality = QualityMeter(self.model.spec.vocab_size)
        self._maker = TokenMaker(
            self.model,
            self.request.options,
            self.sequence,
            self.ledger,
            self.observer,
            self.completion,
            self._quality,
        )
        self.observer.recorded(
            self.model, self.request.options, self.sequence, self.cached_tokens, self._maker.seed
        )

    def _go_on(self) -> StopReason | None:
        """After a token was passed on: end, slide, or ask for the next."""
        if self._verdict is not None:
            return self._verdict
        room = self._room
        if len(self.slot.token_ids) >= room:
            if self.request.options.context_overflow is not ContextOverflow.SLIDING or room < 2:
                return (
                    StopReason.CONTEXT_FULL
                    if room >= self.model.context_length
                    else StopReason.MEMORY_BUDGET_SOFT_LIMIT
                )
            self._slide(room)
            return None
        self.stage = DECODE
        self.ledger.enter(_DECODING)
        return None

    def _slide(self, room: int) -> None:
        """Drop the older half after the beginning, and compute what is kept at its new place."""
        self.ledger.enter(Phase.PREFILL)
        store, slot, emitter = self.store, self.slot, self.observer.emitter
        before = len(self.sequence)
        self.sequence = slid(self.sequence, room - 1)
        self.observer.degraded(
            DegradeReason.CONTEXT_TRUNCATION,
            f"{before - len(self.sequence)} of {before} tokens slid out of the context",
        )
        store.give_back(slot, keep=False, emitter=emitter, sound=True)
        self.lent = False
        plan = store.plan(slot, self.sequence, room, emitter, patient=False)
        if plan is None:  # pragma: no cover - the slot was given back
            raise AssertionError
        self.cache, _ = store.lend(plan, emitter, told=False)
        self._room = min(self.cache.capacity, self.model.context_length)
        self.lent = True
        self.stage = PREFILL

    # -- the reader ---------------------------------------------------------------------------

    def _pass_on(self, chunk: StreamChunk) -> bool:
        """Let the reader have a chunk; whether the next may be made before it comes back."""
        outlet, limit = self.outlet, self.outlet.limit
        overfull = limit and not self._waits and outlet.depth >= limit
        outlet.put(chunk)
        if self._verdict is None and overfull:
            self._verdict = self._give_up()
        return bool(limit) and (not self._waits or self._verdict is not None or outlet.has_room)

    def _give_up(self) -> StopReason:
        """The reader is too far behind, and its policy is not to wait for it."""
        outlet, policy = self.outlet, self.request.options.backpressure
        limit = outlet.limit or 0
        reason = ReasonCode.BACKPRESSURE_BUFFER_FULL
        self.observer.backpressure(reason, policy.value, limit, limit)
        if policy is BackpressurePolicy.DROP_REQUEST:
            self.failure = BackpressureError(
                reason,
                f"{limit} chunks wait for the reader of the stream, which takes {limit}",
                hint="read faster, raise max_buffered_tokens, or use backpressure='block'",
                depth=limit,
                limit=limit,
            )
            outlet.clear()
        return StopReason.BACKPRESSURE_BUFFER_FULL

    def _pause(self) -> None:
        outlet = self.outlet
        if outlet.limit and not self.paused_ns:  # told once, not at each pause
            reason = ReasonCode.BACKPRESSURE_BUFFER_FULL
            self.observer.backpressure(reason, _BLOCK, outlet.depth, outlet.limit)
        self.stage = PAUSED
        self.ledger.enter(Phase.CONSUMER)
        self.paused_ns = self.ledger.mark_ns
        outlet.paused = True

    @property
    def may_resume(self) -> bool:
        """Whether the reader came back."""
        return self.stage is PAUSED and self.outlet.has_room

    def resume(self) -> StopReason | None:
        """Go on after a pause; says why the request ends, when it does."""
        self.outlet.paused = False
        self.ledger.enter_at(_DECODING, self.outlet.asked_ns)
        return self._go_on()

    def lose(self, failure: BaseException) -> None:
        """End without telling anybody but the reader: the request is another process's."""
        self.stage = ENDED
        self.failure = failure
        if self.lent:
            self.store.give_back(self.slot, keep=self.request.slot is not None)
        self.outlet.renew()
        self.outlet.end()

    def told_to_stop(self, reason: StopReason) -> StopReason:
        """The reason of the end when it is stopped now: a token may have been the last already."""
        if self.abort_failure is None and self._verdict is not None:
            return self._verdict
        return reason


def _nothing() -> None:
    """There is no callback to take back."""
