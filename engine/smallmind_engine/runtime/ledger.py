"""The time ledger of a request: at any moment its time runs on one phase's account."""

from __future__ import annotations

from collections.abc import Callable

from smallmind_engine.telemetry import Phase, now_ns


class TimeLedger:
    """Adds up nanoseconds by phase. Belongs to one request.

    Because switching phases is the only operation, the accounts always add up to the time
    between creation and ``close``.

    Args:
        phase: the first phase.
        clock: monotonic nanoseconds.
    """

    __slots__ = ("_accounts", "_clock", "_mark_ns", "_phase", "begin_ns")

    def __init__(self, phase: Phase, clock: Callable[[], int] = now_ns) -> None:
        self._clock = clock
        self._accounts = dict.fromkeys(Phase, 0)
        self._phase = phase
        self.begin_ns = self._mark_ns = clock()

    def enter(self, phase: Phase) -> Phase:
        """From now on time goes to ``phase``; answers the phase until now."""
        now = self._clock()
        left = self._phase
        self._accounts[left] += now - self._mark_ns
        self._mark_ns = now
        self._phase = phase
        return left

    def enter_and_read(self, phase: Phase, account: Phase) -> tuple[Phase, int, int]:
        """As ``enter``; answers ``elapsed_ns`` and what is booked on ``account``, too."""
        now = self._clock()
        accounts, left = self._accounts, self._phase
        accounts[left] += now - self._mark_ns
        self._mark_ns = now
        self._phase = phase
        return left, now - self.begin_ns, accounts[account]

    def enter_at(self, phase: Phase, moment_ns: int) -> None:
        """Go to ``phase`` as of a moment in the past that another thread noted."""
        moment = max(moment_ns, self._mark_ns)
        self._accounts[self._phase] += moment - self._mark_ns
        self._mark_ns = moment
        self._phase = phase

    def close(self) -> None:
        """Book what has passed since the last switch; what follows is nobody's."""
        self.enter(Phase.UNATTRIBUTED)

    def ns(self, phase: Phase) -> int:
        """Nanoseconds booked on ``phase`` up to the last switch."""
        return self._accounts[phase]

    @property
    def mark_ns(self) -> int:
        """The moment of the last switch."""
        return self._mark_ns

    @property
    def elapsed_ns(self) -> int:
        """Nanoseconds from the beginning to the last switch."""
        return self._mark_ns - self.begin_ns

    def seconds(self) -> tuple[tuple[str, float], ...]:
        """Seconds by phase, in the order of ``Phase``."""
        return tuple((phase.value, ns / 1e9) for phase, ns in self._accounts.items())
