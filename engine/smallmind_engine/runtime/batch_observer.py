"""What the scheduler tells the bus: steps of the model, which belong to several requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smallmind_engine.kernels import OnOperations, OperationTime
from smallmind_engine.runtime.options import Detail
from smallmind_engine.runtime.stalls import StallWatch
from smallmind_engine.runtime.step_plan import Share
from smallmind_engine.runtime.telemetry_budget import TelemetryBudget
from smallmind_engine.runtime.telling import tell_operations
from smallmind_engine.telemetry import (
    BatchStepped,
    EventBus,
    EventKind,
    Phase,
    new_correlation,
)

_STEPPED: Final = int(EventKind.BATCH_STEPPED)
_STALL: Final = int(EventKind.RUNTIME_STALL)
_TELEMETRY: Final = Phase.TELEMETRY  # read for each token, and as slow as a call in its class


class BatchObserver:
    """Publishes what happens to several requests at once, under ids of its own.

    Args:
        bus: carries the events.
        model: name of the model.
        backend: name of the backend.
        detail: how much is told.
        budget: may tell less.
        watch: finds steps that are late.

    Attributes:
        tells_operations: whether anybody may be told of the operations of a step.
    """

    def __init__(
        self,
        bus: EventBus,
        model: str,
        backend: str,
        detail: Detail,
        budget: TelemetryBudget,
        watch: StallWatch | None = None,
    ) -> None:
        self._bus = bus
        self._budget = budget
        self._watch = watch or StallWatch()
        self._model = model
        self._backend = backend
        self._kernel_mask = int(EventKind.KERNEL_EXECUTED) if detail is Detail.KERNEL else 0
        self._emitter = bus.emitter(new_correlation())
        self.tells_operations: Final = detail is Detail.KERNEL

    def begin(self) -> None:
        """A step is about to run."""
        if self._budget.share is not None:
            self._budget.check()
        if not self._bus.is_current(self._emitter):
            self._emitter = self._bus.emitter(self._emitter.correlation)
        if self._emitter.wants & _STALL:
            watch = self._watch
            if watch.waited or watch.pauses.count != watch.gc_count:
                watch.begin()
        elif self._watch.watching:
            self._watch.stop()

    def rest(self, *, idle: bool) -> None:
        """Nothing can be computed now.

        Args:
            idle: there is no request either.
        """
        self._watch.rest(idle=idle)

    def stepped(
        self,
        shares: Sequence[Share],
        prefill_tokens: int,
        decode_tokens: int,
        seconds: float,
        queue_depth: int,
        running: int,
    ) -> None:
        """A step ran. Hot: nothing happens here while nobody wants steps."""
        if self._watch.watching:
            sequences = 0 if prefill_tokens else len(shares)
            stall = self._watch.end(int(seconds * 1e9), sequences)
            if stall is not None:
                for work, _ in shares:
                    work.observer.stalled(len(work.completion.token_ids), stall)
        emitter = self._emitter
        if not emitter.wants & _STEPPED:
            return
        if self._budget.mask and self._budget.sheds(_STEPPED):
            return
        for work, _ in shares:  # what each of them does next says so itself
            work.ledger.enter(_TELEMETRY)
        emitter.tell(
            BatchStepped,
            self._model,
            len(shares),
            prefill_tokens,
            decode_tokens,
            seconds,
            queue_depth,
            running,
        )

    def on_operations(self, shares: Sequence[Share]) -> OnOperations | None:
        """What a step is to tell its operations to; None while nobody wants them."""
        if len(shares) == 1:
            return shares[0][0].observer.on_operations
        emitter = self._emitter
        if not emitter.wants & self._kernel_mask or self._budget.sheds(self._kernel_mask):
            return None

        def tell(operations: Sequence[OperationTime]) -> None:
            before = [work.ledger.enter(_TELEMETRY) for work, _ in shares]
            tell_operations(emitter, self._model, self._backend, operations)
            for (work, _), phase in zip(shares, before, strict=True):
                work.ledger.enter(phase)

        return tell
