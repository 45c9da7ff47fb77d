"""One request, as its caller sees it: begun, read, cancelled, and waited for."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Final

from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.ending import end, stop_reason_of
from smallmind_engine.runtime.ledger import TimeLedger
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.runtime.options import BackpressurePolicy, ContextOverflow
from smallmind_engine.runtime.outlet import Outlet
from smallmind_engine.runtime.overflow import slid, without_middle
from smallmind_engine.runtime.request import GenerationRequest
from smallmind_engine.runtime.results import GenerationResult, StreamChunk
from smallmind_engine.runtime.structure import Structure
from smallmind_engine.runtime.work import RequestWork, Stage
from smallmind_engine.telemetry import (
    Correlation,
    DegradeReason,
    Phase,
    ReasonCode,
    SmallMindError,
    StopReason,
    correlated,
    new_correlation,
)
from smallmind_engine.telemetry.errors import (
    ConfigError,
    ContextOverflowError,
    InferenceError,
    OperationCancelledError,
)

DEFAULT_BUFFERED_TOKENS: Final = 64
_PATIENCE_S: Final = 5.0
_ABANDONED_PATIENCE_S: Final = 0.25
"""How long an abandoned stream waits for its end, at most: the garbage collector may be in the
midst of something that the scheduler waits for."""


class GenerationRun:
    """Runs one request once. Read by one thread at a time; ``cancel`` may be called by any.

    The ids, the clock and the set of exporters are those of the moment of creation.

    Args:
        core: the engine.
        request: what to do.
        on_ready: called by the scheduler when there is something to ``poll``; must not block.

    Attributes:
        correlation: the ids of the request.
    """

    def __init__(
        self,
        core: EngineCore,
        request: GenerationRequest,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        core.check_open()
        core.check_generates()
        options = request.options
        self._core = core
        self._request = request
        ledger = TimeLedger(Phase.CONSUMER)
        self.correlation: Final[Correlation] = new_correlation(
            session_id=request.session_id,
            traceparent=options.traceparent,
            tracestate=options.tracestate,
            request_id=options.request_id,
        )
        observer = RequestObserver(
            core.bus.emitter(self.correlation),
            ledger,
            model=core.model.name,
            backend=core.model.runner.backend,
            operation=request.operation,
            streaming=request.streaming,
            capture_content=core.options.capture_content,
            detail=core.options.detail,
            budget=core.telemetry_budget,
        )
        # The run's own token lets the engine's close() and a stream's close() stop it too.
        others = () if options.cancellation is None else (options.cancellation,)
        token = CancellationToken(core.closing, *others)
        self._work = RequestWork(
            request,
            core.model,
            core.kv_store,
            ledger,
            observer,
            token,
            Outlet(_limit(request), on_ready),
            quality_signals=core.options.quality_signals,
        )
        self._begun = False
        self._refusal: BaseException | None = None
        self._patience_s = _PATIENCE_S

    @property
    def result(self) -> GenerationResult | None:
        """What came out; None until it ended."""
        return self._work.result

    @property
    def sequence_ids(self) -> list[int]:
        """Prompt and completion, with all that came before in the session and is still kept."""
        return list(self._work.sequence)

    @property
    def is_under_way(self) -> bool:
        """Whether it was submitted and has not ended."""
        return self._begun and self._work.stage not in {Stage.NEW, Stage.ENDED}

    def skip_to_end(self) -> bool:
        """Let go of the chunks that wait; whether the end was among them, or it never began."""
        if not self._begun:
            return True
        chunk, ended = self._work.outlet.poll()
        while chunk is not None:
            chunk, ended = self._work.outlet.poll()
        return ended

    @property
    def runs_ahead(self) -> bool:
        """Whether it works although nobody has come for a chunk yet."""
        return not self._work.outlet.in_step

    # -- the beginning ------------------------------------------------------------------------

    def begin(self) -> None:
        """Read the prompt and stand in the queue; the second call does nothing.

        Raises:
            SmallMindError: the request is refused; it carries ``details["result"]``.
        """
        if self._begun:
            return
        self._begun = True
        arrivals, scheduler = self._core.arrivals, self._core.scheduler
        crowded = scheduler.admission.looks_full(scheduler.live)
        with (
            arrivals.held(),
            arrivals.one_by_one(crowded=crowded),
            scheduler.admission.preparing(self._work),
        ):
            self._begin()

    def _begin(self) -> None:
        work = self._work
        try:
            with correlated(self.correlation):
                self._check_room()
                self._tokenize()
                self._compile_grammar()
                work.ledger.enter(Phase.QUEUE)
                self._submit()
        except OperationCancelledError as stopped:
            self._end_here(StopReason(stopped.reason.value), None)
        except BaseException as error:
            cancelled = isinstance(error, KeyboardInterrupt)
            reason = StopReason.CANCELLED_BY_CALLER if cancelled else stop_reason_of(error)
            if work.stage is Stage.NEW:
                self._end_here(reason, error)
            else:
                self.stop(error)
            raise

    def begin_quietly(self) -> None:
        """As ``begin``, but a refusal is raised when the first chunk is read."""
        try:
            self.begin()
        except Exception as error:  # noqa: BLE001 - raised again in ``take``
            self._refusal = error

    def _check_room(self) -> None:
        """Where the queue is full already, spare everybody the reading of the prompt."""
        scheduler = self._core.scheduler
        try:
            scheduler.admission.check_early(scheduler.live)
        except SmallMindError as error:
            self._work.observer.queued(scheduler.admission.waiting + 1)
            self._tell_rejected(error)
            raise

    def _submit(self) -> None:
        work, scheduler = self._work, self._core.scheduler
        if scheduler.is_here:
            raise InferenceError(
                ReasonCode.ERROR,
                "an exporter called the engine in the scheduler's thread, which cannot wait for"
                " itself",
                hint="let the exporter say inline = False, which gives it a thread of its own",
            )
        work.observer.queued(scheduler.admission.waiting + 1)
        work.forget_token = work.token.on_cancel(partial(scheduler.look_at, work))
        try:
            scheduler.submit(work)
        except SmallMindError as error:
            self._tell_rejected(error)
            raise

    def _tell_rejected(self, error: SmallMindError) -> None:
        admission, observer = self._core.scheduler.admission, self._work.observer
        waiting, most = admission.waiting, admission.most_waiting
        observer.rejected(error.reason, waiting, most)
        if error.reason is ReasonCode.BACKPRESSURE_QUEUE_FULL:
            observer.backpressure(error.reason, "reject", waiting, most)

    def _end_here(self, reason: StopReason, failure: BaseException | None) -> None:
        """End a request that was not submitted."""
        self._work.outlet.end(end(self._work, reason, failure))

    def _tokenize(self) -> None:
        request, core, work = self._request, self._core, self._work
        work.ledger.enter(Phase.TOKENIZE)
        if isinstance(request.prompt, str):
            ids = core.model.tokenizer.encode(
                request.prompt,
                add_special=request.add_special,
                parse_special=request.options.parse_special,
                limit=work.limit,
            )
        else:
            ids = [int(token) for token in request.prompt]
            core.check_token_ids(ids)
        ids = [*request.prefix_ids, *ids]
        if not ids:
            raise ConfigError(
                ReasonCode.PROMPT_EMPTY,
                "the prompt holds no token, and this model does not begin with one of its own",
                hint="pass at least one character",
            )
        room = core.model.context_length - 1
        if len(ids) > room:
            ids = self._shorten(ids, room)
        work.sequence = ids
        work.prompt_tokens = len(ids)

    def _compile_grammar(self) -> None:
        """Make ready what the answer is held to: here, and not in the scheduler's thread."""
        wanted, work, core = self._request.options.response_format, self._work, self._core
        if wanted is None:
            return
        work.limit.check("compiling the grammar")
        work.ledger.enter(Phase.GRAMMAR)
        begin_ns = work.ledger.mark_ns
        structure = Structure(core.grammars.compiled(wanted), core.model.tokenizer.eog_ids)
        work.ledger.enter(Phase.GRAMMAR)
        structure.compile_s = (work.ledger.mark_ns - begin_ns) / 1e9
        work.completion.structure = structure

    def _shorten(self, ids: list[int], room: int) -> list[int]:
        context = self._core.model.context_length
        policy = self._request.options.context_overflow
        if policy is ContextOverflow.ERROR:
            raise ContextOverflowError(
                ReasonCode.CONTEXT_OVERFLOW,
                f"the prompt has {len(ids)} tokens; the context of {context} leaves room"
                f" for {room}",
                hint="shorten it, or use context_overflow='truncate_middle' or 'sliding'",
                prompt_tokens=len(ids),
                context_length=context,
            )
        if policy is ContextOverflow.SLIDING:
            kept, where = slid(ids, room), "after its beginning"
        else:
            kept, where = without_middle(ids, room), "out of the middle"
        self._work.observer.degraded(
            DegradeReason.CONTEXT_TRUNCATION,
            f"{len(ids) - len(kept)} of {len(ids)} prompt tokens were left {where}",
        )
        return kept

    # -- reading ------------------------------------------------------------------------------

    def take(self) -> StreamChunk | None:
        """Wait for the next chunk; None at the end.

        Raises:
            SmallMindError: the request failed; told once.
        """
        outlet = self._work.outlet
        if outlet.ask():
            self._core.scheduler.look_at(self._work)
        chunk = outlet.take()
        if chunk is None:
            self._raise_failure()
        return chunk

    def poll(self) -> tuple[StreamChunk | None, bool]:
        """The next chunk if there is one, and whether the request is over.

        Raises:
            SmallMindError: the request failed; told once.
        """
        outlet = self._work.outlet
        if outlet.ask():
            self._core.scheduler.look_at(self._work)
        chunk, ended = outlet.poll()
        if ended:
            self._raise_failure()
        return chunk, ended

    def _raise_failure(self) -> None:
        failure = self._refusal or self._work.failure
        self._refusal = self._work.failure = None
        if failure is not None:
            raise failure

    def steps(self) -> Generator[StreamChunk, None, None]:
        """Run the request; yields what is ready to be shown.

        Raises:
            BackpressureError: the queue is full, or the reader was too slow for its policy.
            MemoryBudgetError: the KV cache does not fit the budget.
            ContextOverflowError: the prompt does not fit the context.
            InferenceError: the model failed.

            All of them carry ``details["result"]``.
        """
        on_token = self._request.options.on_token
        try:
            self.begin()
            while (chunk := self.take()) is not None:
                if on_token is not None and chunk.token_id is not None:
                    on_token(chunk)
                yield chunk
        except GeneratorExit:
            self.close()
            raise
        except BaseException as error:
            self.stop(error)
            raise

    def finished(self) -> GenerationResult:
        """The result of a run that ended.

        Raises:
            InferenceError: it did not; which would be a fault of ours.
        """
        if self.result is None:
            raise InferenceError(ReasonCode.ERROR, "the request ended without a result")
        return self.result

    # -- the end ------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop within a step. Thread-safe."""
        self._work.token.cancel()

    def stop(self, error: BaseException) -> None:
        """End the request because of an error in its caller's own code, and wait for that."""
        work = self._work
        if not self.is_under_way:
            return
        interrupted = isinstance(error, KeyboardInterrupt)
        work.abort_failure = error
        work.abort_reason = StopReason.CANCELLED_BY_CALLER if interrupted else stop_reason_of(error)
        self._core.scheduler.look_at(work)
        self._wait_end()
        work.failure = None  # its caller knows
        if interrupted and work.result is not None:
            error.__dict__["result"] = work.result

    def close(self) -> None:
        """Stop the request, and wait for its end. May be called again."""
        self.cancel()
        if self._work.stage is Stage.NEW:
            self._work.token.close()  # or its parents would remember it for ever
        else:
            if self.is_under_way:  # told again, in case Ctrl-C has kept the token from it
                self._core.scheduler.look_at(self._work)
            self._wait_end()

    def abandon(self) -> None:
        """Nobody will read on: do not wait long for the end."""
        self._patience_s = _ABANDONED_PATIENCE_S

    def _wait_end(self) -> None:
        if not self._core.scheduler.is_here:
            self._work.outlet.wait_end(self._patience_s)


def _limit(request: GenerationRequest) -> int | None:
    """How many chunks may wait for the reader."""
    options = request.options
    if not request.streaming:
        return None if options.on_token is None else 0
    if options.max_buffered_tokens is not None:
        return options.max_buffered_tokens
    if options.backpressure is not BackpressurePolicy.BLOCK:
        return DEFAULT_BUFFERED_TOKENS
    return request.default_buffer
