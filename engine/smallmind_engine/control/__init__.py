"""Control: how work is told to stop."""

from smallmind_engine.control.background import run_or_leave
from smallmind_engine.control.cancellation import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.control.forks import FORK_GATE, ForkGate

__all__ = [
    "FORK_GATE",
    "NO_LIMIT",
    "CancellationToken",
    "ForkGate",
    "WorkLimit",
    "run_or_leave",
]
