"""The engine's parts, put together: what every request shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smallmind_engine.cache import BLOCK_TOKENS
from smallmind_engine.control import CancellationToken, WorkLimit
from smallmind_engine.grammar import GrammarCache
from smallmind_engine.memory import BudgetEnforcer
from smallmind_engine.model import LoadedModel, kept_prefix_tokens
from smallmind_engine.runtime.arrivals import Arrivals
from smallmind_engine.runtime.batch_observer import BatchObserver
from smallmind_engine.runtime.kv_store import KVStore
from smallmind_engine.runtime.options import EngineOptions
from smallmind_engine.runtime.scheduler import Scheduler
from smallmind_engine.runtime.stats import EngineStats, stats_of
from smallmind_engine.runtime.telemetry_budget import TelemetryBudget
from smallmind_engine.runtime.work_gate import WorkGate
from smallmind_engine.telemetry import EventBus, ReasonCode
from smallmind_engine.telemetry.errors import ClosedError, TokenizerError, UnsupportedModelError
from smallmind_engine.telemetry.fork import renew_in_child

_CLOSE_TIMEOUT_S: Final = 5.0


class EngineCore:
    """A loaded model with its scheduler, caches, budget and bus. Thread-safe.

    Args:
        model: owned by the core from now on.
        options: of the engine.
        budget: the one the model was loaded with.
        bus: carries the events.

    Attributes:
        grammars: compiled response formats.
        gate: lets work in that goes to the model beside the scheduler.
        arrivals: callers who have not told yet how their requests ended.
        closing: cancelled by ``close``; every request is linked to it.
    """

    def __init__(
        self, model: LoadedModel, options: EngineOptions, budget: BudgetEnforcer, bus: EventBus
    ) -> None:
        self.model: Final = model
        self.options: Final = options
        self.budget: Final = budget
        self.bus: Final = bus
        kept = options.max_prefix_tokens
        if kept is None:
            kept = kept_prefix_tokens(model.context_length, model.runner.kv_bytes_per_token)
        most = options.max_kv_tokens
        self.kv_store: Final = KVStore(
            model.runner,
            budget,
            model.name,
            sharing=options.prefix_cache,
            most_idle_blocks=kept // BLOCK_TOKENS,
            most_blocks=None if most is None else most // BLOCK_TOKENS,
        )
        self.telemetry_budget: Final = TelemetryBudget(
            bus, options.detail, options.telemetry_budget
        )
        observer = BatchObserver(
            bus, model.name, model.runner.backend, options.detail, self.telemetry_budget
        )
        self.scheduler: Final = Scheduler(model.runner, self.kv_store, options, observer)
        self.grammars: Final = GrammarCache(model.tokenizer)
        self.gate: Final = WorkGate(options.max_concurrent_requests, options.max_queue_depth)
        self.arrivals: Final = Arrivals()
        self.closing = CancellationToken()
        renew_in_child(self, last=True)  # gives back what lost requests held, and tells of it

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self.closing.is_cancelled

    def check_open(self) -> None:
        """Raise after ``close``.

        Raises:
            ClosedError: the engine is closed.
        """
        if self.closed:
            raise ClosedError(ReasonCode.CLOSED, "the engine is closed")

    def check_generates(self) -> None:
        """Raise when the model is an encoder, which predicts no next token.

        Raises:
            UnsupportedModelError: it is.
        """
        if not self.model.spec.causal:
            raise UnsupportedModelError(
                ReasonCode.MODEL_CANNOT_GENERATE,
                f"the model {self.model.name!r} is an encoder: it predicts no next token",
                hint="use engine.embed(), or load a model that generates",
                architecture=self.model.spec.architecture,
            )

    def check_token_ids(self, ids: Sequence[int]) -> None:
        """Raise when an id is outside the vocabulary.

        Raises:
            TokenizerError: with the id.
        """
        size = self.model.spec.vocab_size
        for token in ids:
            if not 0 <= token < size:
                raise TokenizerError(
                    ReasonCode.TOKENIZER_TOKEN_ID_INVALID,
                    f"token id {token} is outside the vocabulary of {size}",
                    token_id=token,
                    vocab_size=size,
                )

    def stats(self) -> EngineStats:
        """What the engine does now, and has done since it was loaded."""
        return stats_of(self.scheduler, self.kv_store, self.bus, self.telemetry_budget)

    def drain(self, timeout_s: float | None) -> bool:
        """Take no new requests, and wait for those there are; whether all ended in time."""
        limit = WorkLimit.within(timeout_s)
        drained = self.scheduler.drain(timeout_s)
        drained = self.gate.drain(limit.remaining_s) and drained
        return self.arrivals.wait(limit.remaining_s) and drained

    def close(self) -> None:
        """Stop all requests within a step, and let go of the model. May be called again."""
        if self.closed:
            return
        self.closing.cancel()
        self.scheduler.close()
        self.gate.drain(_CLOSE_TIMEOUT_S)
        self.arrivals.wait(_CLOSE_TIMEOUT_S)
        self.model.close()
        self.kv_store.close()

    def begin_in_child(self) -> None:
        """Begin without requests, as in a forked child: those there were are the parent's."""
        # A child that was forked in the midst of a step has nothing that it could rely on.
        closed = self.closed or not self.scheduler.was_halted
        self.closing = CancellationToken()
        if closed:
            self.closing.cancel()
        self.kv_store.begin_in_child()
        self.grammars.begin_in_child()
        self.gate.begin_in_child()
        self.arrivals.begin_in_child()
        lost = self.scheduler.begin_in_child()
        for work in lost:
            work.lose(ClosedError(ReasonCode.CLOSED, "the request runs in the parent process"))
