"""Control: how work is told to stop, and who may come in."""

from smallmind_engine.control.background import run_or_leave
from smallmind_engine.control.cancellation import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.control.collector_pause import COLLECTOR_PAUSE, CollectorPause
from smallmind_engine.control.forks import FORK_GATE, ForkGate
from smallmind_engine.control.single_use import SingleUseGuard

__all__ = [
    "COLLECTOR_PAUSE",
    "FORK_GATE",
    "NO_LIMIT",
    "CancellationToken",
    "CollectorPause",
    "ForkGate",
    "SingleUseGuard",
    "WorkLimit",
    "run_or_leave",
]
