"""One request, from prompt to result: queue, prefill, decode loop, and every way to end."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from smallmind_engine.cache import KVCache
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.kernels import Chunk, FloatArray, LogitsWanted
from smallmind_engine.runtime.core import EngineCore
from smallmind_engine.runtime.decoding import Completion, Decoder
from smallmind_engine.runtime.kv_store import CacheSlot
from smallmind_engine.runtime.ledger import TimeLedger
from smallmind_engine.runtime.observer import RequestObserver
from smallmind_engine.runtime.options import ContextOverflow, GenerationOptions
from smallmind_engine.runtime.results import GenerationResult, StreamChunk, Timings, Usage
from smallmind_engine.sampling import Sampler
from smallmind_engine.telemetry import (
    DegradeReason,
    Phase,
    ReasonCode,
    SmallMindError,
    StopReason,
    correlated,
    new_correlation,
)
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    ConfigError,
    ContextOverflowError,
    MemoryBudgetError,
    OperationCancelledError,
)

TEXT_COMPLETION = "text_completion"
CHAT = "chat"


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
    """

    prompt: str | Sequence[int]
    options: GenerationOptions
    slot: CacheSlot | None = None
    prefix_ids: Sequence[int] = ()
    add_special: bool = True
    session_id: str | None = None
    operation: str = TEXT_COMPLETION
    streaming: bool = False


class GenerationRun:
    """Runs one request once. Belongs to one thread at a time.

    The ids, the clock and the set of exporters are those of the moment of creation.

    Args:
        core: the engine.
        request: what to do.

    Attributes:
        correlation: the ids of the request.
        result: what came out; None until it ended.
    """

    def __init__(self, core: EngineCore, request: GenerationRequest) -> None:
        core.check_open()
        options = request.options
        self._core = core
        self._request = request
        self._ledger = TimeLedger(Phase.CONSUMER)
        self.correlation = new_correlation(
            session_id=request.session_id,
            traceparent=options.traceparent,
            request_id=options.request_id,
        )
        self._observer = RequestObserver(
            core.bus.emitter(self.correlation),
            self._ledger,
            model=core.model.name,
            backend=core.model.runner.backend,
            operation=request.operation,
            streaming=request.streaming,
            capture_content=core.options.capture_content,
            detail=core.options.detail,
        )
        # The run's own token lets the engine's close() and a stream's close() stop it too.
        parents = (
            (core.closing,)
            if options.cancellation is None
            else (
                core.closing,
                options.cancellation,
            )
        )
        self._token = CancellationToken(*parents)
        self._limit = WorkLimit.within(options.request_timeout, self._token)
        self._slot = request.slot or CacheSlot()
        self._prompt_ids: list[int] = []
        self._cached_tokens = 0
        self._computed_tokens = 0
        self._completion = Completion()
        self._seed = 0
        self._admitted = False
        self._lent = False
        self.result: GenerationResult | None = None

    @property
    def sequence_ids(self) -> list[int]:
        """Prompt and completion, with all that came before in the session."""
        return [*self._prompt_ids, *self._completion.token_ids]

    def cancel(self) -> None:
        """Stop within a step. Thread-safe."""
        self._token.cancel()

    def stop_for_backpressure(self, depth: int, limit: int) -> None:
        """Let the run end at its next step because its reader is too far behind."""
        self._observer.backpressure(
            ReasonCode.BACKPRESSURE_BUFFER_FULL,
            self._request.options.backpressure.value,
            depth,
            limit,
        )
        self._completion.abandoned = True

    def steps(self) -> Generator[StreamChunk, None, None]:
        """Run the request; yields what is ready to be shown.

        Raises:
            BackpressureError: the queue is full.
            MemoryBudgetError: the KV cache does not fit the budget.
            ContextOverflowError: the prompt does not fit the context.
            InferenceError: the model failed.

            All of them carry ``details["result"]``.
        """
        reason = StopReason.ERROR
        failure: BaseException | None = None
        try:
            with correlated(self.correlation):
                prepared = self._prepare()
            reason = prepared if isinstance(prepared, StopReason) else (yield from prepared.run())
        except OperationCancelledError as stopped:
            reason = StopReason(stopped.reason.value)
        except (GeneratorExit, KeyboardInterrupt) as stopped:
            reason = StopReason.CANCELLED_BY_CALLER
            failure = stopped
            raise
        except SmallMindError as error:
            reason = _stop_reason(error)
            failure = error
            raise
        except BaseException as error:
            failure = error
            raise
        finally:
            rest = self._finish(reason, failure)
        if rest is not None:
            yield rest

    # -- before the first token ---------------------------------------------------------------

    def _prepare(self) -> Decoder | StopReason:
        ledger, core = self._ledger, self._core
        ledger.enter(Phase.TOKENIZE)
        self._tokenize()
        ledger.enter(Phase.QUEUE)
        stopped = self._enter_queue()
        if stopped is not None:
            return StopReason(stopped.value)
        ledger.enter(Phase.PREFILL)
        cache = self._lend_cache()
        self._observer.started(len(self._prompt_ids), self._request.options.max_tokens)
        logits = self._prefill(cache)
        ledger.enter(Phase.SAMPLE)
        self._observer.prefill_ended(self._computed_tokens, self._cached_tokens)
        sampler = Sampler(
            self._request.options.sampling, core.model.spec.vocab_size, history=self._prompt_ids
        )
        self._seed = sampler.seed
        self._observer.recorded(
            core.model,
            self._request.options,
            self._prompt_ids,
            self._cached_tokens,
            sampler.seed,
        )
        return Decoder(
            model=core.model,
            options=self._request.options,
            prompt_ids=self._prompt_ids,
            sampler=sampler,
            cache=cache,
            cached_ids=self._slot.token_ids,
            logits=logits,
            limit=self._limit,
            ledger=ledger,
            observer=self._observer,
            completion=self._completion,
        )

    def _tokenize(self) -> None:
        request, core = self._request, self._core
        if isinstance(request.prompt, str):
            ids = core.model.tokenizer.encode(
                request.prompt,
                add_special=request.add_special,
                parse_special=request.options.parse_special,
                limit=self._limit,
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
        self._prompt_ids = ids

    def _shorten(self, ids: list[int], room: int) -> list[int]:
        context = self._core.model.context_length
        if self._request.options.context_overflow is ContextOverflow.ERROR:
            raise ContextOverflowError(
                ReasonCode.CONTEXT_OVERFLOW,
                f"the prompt has {len(ids)} tokens; the context of {context} leaves room"
                f" for {room}",
                hint="shorten it, or use context_overflow='truncate_middle'",
                prompt_tokens=len(ids),
                context_length=context,
            )
        head = room // 2
        tail = room - head
        self._observer.degraded(
            DegradeReason.CONTEXT_TRUNCATION,
            f"{len(ids) - room} of {len(ids)} prompt tokens were left out of the middle",
        )
        return [*ids[:head], *ids[len(ids) - tail :]]

    def _enter_queue(self) -> ReasonCode | None:
        gate = self._core.gate
        self._observer.queued(gate.waiting + 1)
        try:
            stopped = gate.enter(self._limit, self._token)
        except SmallMindError as error:
            self._observer.rejected(error.reason, gate.waiting, gate.max_waiting)
            if error.reason is ReasonCode.BACKPRESSURE_QUEUE_FULL:
                self._observer.backpressure(error.reason, "reject", gate.waiting, gate.max_waiting)
            raise
        if stopped is None:
            self._admitted = True
            self._ledger.enter(Phase.QUEUE)
            self._observer.admitted(gate.waiting, gate.running)
        return stopped

    def _lend_cache(self) -> KVCache:
        core, ids = self._core, self._prompt_ids
        emitter = self._observer.emitter
        wanted = min(len(ids) + self._request.options.max_tokens, core.model.context_length)
        try:
            cache, reused = core.kv_store.lend(self._slot, ids, wanted, emitter)
        except SmallMindError as error:
            self._observer.rejected(error.reason, core.gate.waiting, core.gate.max_waiting)
            raise
        self._lent = True
        self._cached_tokens = reused
        if self._request.slot is not None:
            core.kv_store.tell_lookup(emitter, len(ids), reused)
        if cache.capacity < wanted:
            self._observer.degraded(
                DegradeReason.MEMORY_BUDGET_SOFT_LIMIT,
                f"the KV cache holds {cache.capacity} of {wanted} tokens",
            )
        return cache

    def _prefill(self, cache: KVCache) -> FloatArray:
        runner = self._core.model.runner
        ids = np.asarray(self._prompt_ids, np.int64)
        begin, end = self._cached_tokens, len(ids)
        while True:
            self._limit.check("prefill")
            stop = min(begin + runner.prefill_chunk, end)
            wanted = LogitsWanted.LAST if stop == end else LogitsWanted.NONE
            (logits,) = runner.forward(
                [Chunk(ids[begin:stop], cache, wanted)],
                limit=self._limit,
                on_operations=self._observer.on_operations,
            )
            self._slot.token_ids.extend(self._prompt_ids[begin:stop])
            self._computed_tokens += stop - begin
            begin = stop
            if isinstance(logits, np.ndarray):
                return logits

    # -- the end ------------------------------------------------------------------------------

    def _finish(self, reason: StopReason, failure: BaseException | None) -> StreamChunk | None:
        """Close the books, give everything back, and tell; answers text that was held back."""
        completion, core = self._completion, self._core
        rest = completion.flush()
        if completion.stop_sequence is not None and failure is None:
            reason = StopReason.STOP_SEQUENCE
        self._ledger.close()
        cache = self._slot.cache
        kv_tokens, kv_bytes = (0, 0) if cache is None else (cache.length, cache.used_bytes)
        self.result = self._result(reason)
        if isinstance(failure, SmallMindError):
            failure.details["result"] = self.result
        self._observer.stopped(self.result, failure, kv_bytes, kv_tokens)
        if self._lent:
            core.kv_store.tell_usage(self._observer.emitter)
            core.kv_store.give_back(self._slot, keep=self._request.slot is not None)
        if self._admitted:
            core.gate.leave()
        self._token.close()
        if not rest:
            return None
        return StreamChunk(rest, None, len(completion.token_ids))

    def _result(self, reason: StopReason) -> GenerationResult:
        completion, model, ledger = self._completion, self._core.model, self._ledger
        return GenerationResult(
            text=completion.text,
            token_ids=tuple(completion.token_ids),
            stop_reason=reason,
            stop_sequence=completion.stop_sequence,
            usage=Usage(len(self._prompt_ids), self._cached_tokens, len(completion.token_ids)),
            timings=Timings(
                total_s=ledger.elapsed_ns / 1e9,
                time_to_first_token_s=completion.ttft_s,
                ledger={Phase(name): seconds for name, seconds in ledger.seconds()},
                decode_steps=completion.decode_steps,
                prefill_tokens=self._computed_tokens,
            ),
            correlation=self.correlation,
            model=model.name,
            model_fingerprint=model.fingerprint,
            backend=model.runner.backend,
            seed=self._seed,
            logprobs=(
                None if self._request.options.logprobs is None else tuple(completion.logprobs)
            ),
        )


def _stop_reason(error: SmallMindError) -> StopReason:
    """The stop reason that goes with an error."""
    if isinstance(error, BackpressureError | MemoryBudgetError):
        return StopReason(error.reason.value)
    return StopReason.ERROR
