"""The overhead budget: telemetry that takes too much of the time tells less, and says so."""

from __future__ import annotations

from typing import Final

from smallmind_engine.runtime.options import Detail
from smallmind_engine.telemetry import EventBus, EventKind, LogLevel, RuntimeLogEvent

WINDOW_NS: Final = 1_000_000_000
"""How long it watches before it decides."""
PATIENCE: Final = 4
"""Calm windows before detail comes back; twice as many each time that this was too soon."""
MOST_PATIENCE: Final = 64
CALM: Final = 0.5
"""A window is calm when telemetry took at most this share of its budget."""

_LEVELS: Final = (Detail.REQUEST, Detail.TOKEN, Detail.KERNEL)
_TOKENS: Final = int(EventKind.TOKEN_GENERATED | EventKind.TOKEN_QUALITY | EventKind.BATCH_STEPPED)
_SHED: Final[dict[Detail, int]] = {
    Detail.REQUEST: int(EventKind.KERNEL_EXECUTED) | _TOKENS,
    Detail.TOKEN: int(EventKind.KERNEL_EXECUTED),
    Detail.KERNEL: 0,
}


class TelemetryBudget:
    """Decides how much detail is told. Used by the scheduler's thread; read by any.

    Args:
        bus: knows what telemetry took, and is told what was shed.
        detail: the most that is ever told.
        share: of the wall time that telemetry may take; None for no budget.

    Attributes:
        level: the detail that is told now.
        share: as given.
        ratio: share of the last window that telemetry took; 0 without a budget.
    """

    __slots__ = (
        "_begin_ns",
        "_bus",
        "_calm",
        "_detail",
        "_patience",
        "_since_restored",
        "_spent_ns",
        "level",
        "mask",
        "ratio",
        "share",
    )

    def __init__(self, bus: EventBus, detail: Detail, share: float | None) -> None:
        self._bus = bus
        self._detail = detail
        self.share = share
        self.level = detail
        self.mask = 0
        self.ratio = 0.0
        self._begin_ns = bus.clock()
        self._spent_ns = bus.overhead_ns
        self._calm = 0
        self._patience = PATIENCE
        self._since_restored = MOST_PATIENCE

    def sheds(self, kind: int) -> bool:
        """Whether an event of ``kind`` is not to be built now; it is counted then."""
        if not self.mask & kind:
            return False
        self._bus.note_shed(kind)
        return True

    def note(self, spent_ns: int) -> None:
        """Count what it took to find out what an event says."""
        self._bus.note_overhead(spent_ns)

    def check(self) -> None:
        """Decide anew when a window has passed. Called before each step."""
        share = self.share
        if share is None:
            return
        now = self._bus.clock()
        elapsed_ns = now - self._begin_ns
        if elapsed_ns < WINDOW_NS:
            return
        spent_ns = self._bus.overhead_ns
        self.ratio = (spent_ns - self._spent_ns) / elapsed_ns
        self._begin_ns, self._spent_ns = now, spent_ns
        self._since_restored += 1
        if self.ratio > share:
            self._calm = 0
            self._shed(share)
        elif self.level is not self._detail:
            self._calm = self._calm + 1 if self.ratio <= share * CALM else 0
            if self._calm >= self._patience:
                self._restore()

    def _shed(self, share: float) -> None:
        if self.level is Detail.REQUEST:
            return
        too_soon = self._since_restored <= PATIENCE
        self._patience = min(self._patience * 2, MOST_PATIENCE) if too_soon else PATIENCE
        self._move(-1)
        self._bus.report_shed(
            f"telemetry took {self.ratio:.1%} of the time, its budget is {share:.1%};"
            f" detail is now {self.level.value}"
        )

    def _restore(self) -> None:
        self._calm = self._since_restored = 0
        self._move(+1)
        emitter = self._bus.emitter()
        if emitter.wants & EventKind.LOG:
            emitter.publish(
                RuntimeLogEvent(
                    *emitter.header(),
                    level=LogLevel.INFO,
                    component="telemetry",
                    message="detail is told again",
                    key1="detail",
                    value1=self.level.value,
                    key2="shed_events",
                    value2=self._bus.shed(),
                )
            )

    def _move(self, step: int) -> None:
        self.level = _LEVELS[_LEVELS.index(self.level) + step]
        # What the engine's own detail leaves out anyway is not shed.
        self.mask = _SHED[self.level] & ~_SHED[self._detail]
