"""A team of threads that run compiled code together, one call at a time.

Between calls the threads of the team wait in compiled code for a fraction of a millisecond, since
the next token's step mostly comes soon and waking a sleeping thread takes long; then they sleep.
Numba's own parallel loops are not used: its default threading layer aborts the process when two
Python threads enter parallel regions at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import numpy as np

from smallmind_engine.telemetry.fork import renew_in_child

Work = Callable[[int], None]
"""Called with the number of the member. It lets go of the GIL, raises nothing, and ends with a
barrier of all members: the caller goes on as soon as its own part returns."""

SpinUntil = Callable[[int, int], bool]
"""``(address of a word, value)`` -> whether the word became larger soon enough."""

_JOIN_TIMEOUT_S: Final = 5.0


class _Member(threading.Thread):
    """A thread that takes part in each call once."""

    def __init__(self, team: Team, number: int, seen: int) -> None:
        super().__init__(name=f"smallmind-kernels-{number}", daemon=True)
        self._team = team
        self._number = number
        self._seen = seen
        self._wake = threading.Lock()
        self._wake.acquire()
        self.asleep = False

    def wake(self) -> None:
        """End its sleep; only when it is asleep."""
        self.asleep = False
        self._wake.release()

    def run(self) -> None:
        while True:
            work = self._team.wait_for_call(self, self._seen)
            if work is None:
                return
            self._seen += 1
            work(self._number)
            del work

    def sleep(self) -> None:
        """Wait for ``wake``."""
        self._wake.acquire()


class Team:
    """Runs work on several threads at once. Belongs to one caller at a time.

    Args:
        size: threads in all, the caller's included.
        spin_until: compiled; waits without holding the GIL.
    """

    def __init__(self, size: int, spin_until: SpinUntil) -> None:
        self.size: Final = size
        self._spin_until = spin_until
        self._calls = np.zeros(1, np.int64)
        self._address = self._calls.ctypes.data
        self._begin_anew()
        renew_in_child(self)

    def _begin_anew(self) -> None:
        self._members: list[_Member] = []
        self._lock = threading.Lock()
        self._work: Work | None = None

    def run(self, work: Work) -> None:
        """Call ``work(0)`` here and ``work(1)``, ... on the other threads."""
        if self.size > 1:
            self._announce(work)
        work(0)

    def _announce(self, work: Work | None) -> None:
        if not self._members and work is not None:
            seen = int(self._calls[0])
            self._members = [_Member(self, number, seen) for number in range(1, self.size)]
            for member in self._members:
                member.start()
        with self._lock:
            self._work = work
            self._calls[0] += 1
            for member in self._members:
                if member.asleep:
                    member.wake()

    def wait_for_call(self, member: _Member, seen: int) -> Work | None:
        """What the call after ``seen`` ones asks for; None to end."""
        if not self._spin_until(self._address, seen):
            with self._lock:
                member.asleep = self._calls[0] == seen
            if member.asleep:
                member.sleep()
        return self._work

    def begin_in_child(self) -> None:
        """A forked child has none of the threads; new ones start with the next work."""
        self._begin_anew()

    def close(self) -> None:
        """End the threads. The next work starts new ones."""
        members = self._members
        if members:
            self._announce(None)
        for member in members:
            member.join(_JOIN_TIMEOUT_S)
        self._members = []
