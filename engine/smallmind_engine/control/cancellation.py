"""Cancellation tokens and deadlines: how long work is told to stop.

Work checks a ``WorkLimit`` between its steps; the check is one comparison when nothing is set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from smallmind_engine.telemetry.errors import OperationCancelledError
from smallmind_engine.telemetry.reasons import ReasonCode


class CancellationToken:
    """A switch that a caller flips once to stop work. Thread-safe, also in a signal handler.

    Args:
        parents: tokens whose cancellation also cancels this one.
    """

    __slots__ = ("_callbacks", "_cancelled", "_links", "_lock")

    def __init__(self, *parents: CancellationToken) -> None:
        # Re-entrant: a signal may interrupt the thread that holds it, and cancel.
        self._lock = threading.RLock()
        self._cancelled = False
        self._callbacks: list[Callable[[], None]] = []
        self._links = [parent.on_cancel(self.cancel) for parent in parents]

    @property
    def is_cancelled(self) -> bool:
        """Whether ``cancel`` was called here or on a parent."""
        return self._cancelled

    def cancel(self) -> None:
        """Flip the switch and run the callbacks, once; one that raises keeps no other from it."""
        callbacks: list[Callable[[], None]] = []
        failure: BaseException | None = None
        try:
            with self._lock:
                if self._cancelled:
                    return
                self._cancelled = True
                callbacks, self._callbacks = self._callbacks, []
        finally:  # also when Ctrl-C comes as the lock is left
            while callbacks:
                try:
                    while callbacks:
                        callbacks.pop(0)()
                except BaseException as error:  # noqa: BLE001 - raised when all have been called
                    failure = failure or error
        if failure is not None:
            raise failure

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` on cancellation, at once when it already happened.

        Returns:
            A function that takes the callback back.
        """
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return lambda: self._forget(callback)
        callback()
        return lambda: None

    def _forget(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def close(self) -> None:
        """Let go of the parents, so that a long-lived parent does not collect dead children."""
        for unlink in self._links:
            unlink()
        self._links = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class WorkLimit:
    """A token and a deadline that one piece of work obeys.

    Args:
        token: cancels the work; None for work that nobody cancels.
        deadline_s: moment of ``clock`` at which the work must stop; None for no deadline.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_deadline_s", "_token")

    def __init__(
        self,
        token: CancellationToken | None = None,
        deadline_s: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._token = token
        self._deadline_s = deadline_s
        self._clock = clock

    @classmethod
    def within(
        cls,
        timeout_s: float | None,
        token: CancellationToken | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> WorkLimit:
        """A limit whose deadline is ``timeout_s`` seconds from now."""
        return cls(token, None if timeout_s is None else clock() + timeout_s, clock)

    @property
    def token(self) -> CancellationToken | None:
        """What cancels the work, to hand on to work that it causes."""
        return self._token

    @property
    def exceeded(self) -> ReasonCode | None:
        """Why the work must stop, or None while it may go on."""
        if self._token is not None and self._token.is_cancelled:
            return ReasonCode.CANCELLED_BY_CALLER
        if self._deadline_s is not None and self._clock() >= self._deadline_s:
            return ReasonCode.CANCELLED_BY_TIMEOUT
        return None

    @property
    def deadline_s(self) -> float | None:
        """Moment of the clock at which the work must stop; None without one."""
        return self._deadline_s

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the deadline, never negative; None without one."""
        if self._deadline_s is None:
            return None
        return max(0.0, self._deadline_s - self._clock())

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing can ever exceed it."""
        return self._token is None and self._deadline_s is None

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """As of the token; nothing when there is none. A deadline calls nobody."""
        return (lambda: None) if self._token is None else self._token.on_cancel(callback)

    def check(self, work: str) -> None:
        """Raise when the work must stop.

        Raises:
            OperationCancelledError: cancelled, or past the deadline.
        """
        reason = self.exceeded
        if reason is not None:
            raise OperationCancelledError(reason, f"{work} was stopped", work=work)


NO_LIMIT: Final = WorkLimit()
