"""Control: how work is told to stop."""

from smallmind_engine.control.cancellation import NO_LIMIT, CancellationToken, WorkLimit

__all__ = ["NO_LIMIT", "CancellationToken", "WorkLimit"]
