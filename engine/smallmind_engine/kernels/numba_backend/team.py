"""A team of threads that run compiled code together, one call at a time.

Members do one call after the other without coming back to Python, so that no step begins or ends
with threads that wait for each other's hold on the GIL. Between calls they wait in compiled code
for some milliseconds, since the next token's step mostly comes soon and waking a sleeping thread
takes long; then they sleep. Numba's own parallel loops are not used: its default
threading layer aborts the process when two Python threads enter parallel regions at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, Protocol

import numpy as np

from smallmind_engine.kernels.numba_backend.records import LINE_WORDS, Mail
from smallmind_engine.telemetry.fork import renew_in_child

_NOTHING: Final = 0

_JOIN_TIMEOUT_S: Final = 5.0


class Compiled(Protocol):
    """The compiled ``sync_ir.lead`` or ``sync_ir.serve``."""

    @property
    def call(self) -> Callable[[int, int], int]:
        """``(address of the words, member)``; lets go of the GIL."""
        ...


class Work(Protocol):
    """A compiled function ``(member, argument)``.

    It raises nothing, and ends with a barrier of all members: the caller goes on as soon as its
    own part returns.
    """

    @property
    def address(self) -> int:
        """Where it is."""
        ...


class _Roster:
    """The members of one life of a team: from its first work until it is closed.

    Who belongs to it is what the threads themselves have written here. Ctrl-C while a thread is
    being started leaves nobody knowing whether it runs; another one is started then, and the first
    of them to come takes the place.
    """

    def __init__(self) -> None:
        self.members: dict[int, _Member] = {}
        self.is_open = True
        self.left: SimpleQueue[None] = SimpleQueue()


class _Member(threading.Thread):
    """A thread that takes part in each call once."""

    def __init__(self, team: Team, roster: _Roster, number: int) -> None:
        super().__init__(name=f"smallmind-kernels-{number}", daemon=True)
        self._team = team
        self._roster = roster
        self.number = number
        self._wake = threading.Lock()
        self._wake.acquire()
        self.asleep = False

    def wake(self) -> None:
        """End its sleep. In an order in which Ctrl-C may come between: twice does no harm."""
        if self._wake.locked():
            self._wake.release()
        self.asleep = False

    def run(self) -> None:
        if not self._team.joins(self, self._roster):
            return
        while self._team.serve(self.number):
            if self._team.may_sleep(self):
                self._wake.acquire()
        self._team.leaves(self, self._roster)


class Team:
    """Runs work on several threads at once. Belongs to one caller at a time.

    Args:
        size: threads in all, the caller's included.
        lead: begins a call for all, and does the caller's part.
        serve: what members do; kept as it is, since its code must outlive them.
    """

    def __init__(self, size: int, lead: Compiled, serve: Compiled) -> None:
        self.size: Final = size
        self._lead = lead
        self._serve = serve
        words = np.zeros(Mail.SEEN + (size + 1) * LINE_WORDS, np.int64)
        begin = -(words.ctypes.data // words.itemsize) % LINE_WORDS
        self._words = words.data[begin:]
        self._address = words.ctypes.data + begin * words.itemsize
        self._begin_anew()
        renew_in_child(self)

    def _begin_anew(self) -> None:
        self._roster: _Roster | None = None
        self._lock = threading.Lock()
        self._post: tuple[int, int] | None = None
        self._calling = False
        self._is_started = False

    def run(self, work: Work, argument: int) -> None:
        """Call ``work(0, argument)`` here and ``work(1, argument)``, ... on the other threads."""
        if not self._is_started:
            self._start()
        self._call(work.address, argument)

    def _call(self, function: int, argument: int) -> None:
        """Have all members awake, then begin the call. Ctrl-C may come before that or behind it."""
        if self._post != (function, argument):
            self._post = None
            self._words[Mail.FUNCTION], self._words[Mail.ARGUMENT] = function, argument
            self._post = (function, argument)
        try:
            with self._lock:
                self._calling = True
                if self._roster is not None:
                    for member in self._roster.members.values():
                        if member.asleep:
                            member.wake()
            self._lead.call(self._address, 0)
        finally:
            self._calling = False

    def _start(self) -> None:
        if self._roster is not None and not self._roster.is_open:
            self.close()  # did not come to its end
        if self._roster is None:
            for number in range(1, self.size):
                self._words[_seen(number)] = self._words[Mail.CALLS]
            self._roster = _Roster()
        for number in range(1, self.size):
            if number not in self._roster.members:
                _Member(self, self._roster, number).start()
        self._is_started = True

    def joins(self, member: _Member, roster: _Roster) -> bool:
        """Let a thread take its place, unless another one has it or the team was closed."""
        with self._lock:
            joins = roster.is_open and member.number not in roster.members
            if joins:
                roster.members[member.number] = member
            return joins

    def leaves(self, member: _Member, roster: _Roster) -> None:
        """A member does not touch the team's words any more."""
        with self._lock:
            del roster.members[member.number]
        roster.left.put(None)

    def serve(self, number: int) -> int:
        """Do the calls that come; 0 when there will be none any more."""
        return self._serve.call(self._address, number)

    def may_sleep(self, member: _Member) -> bool:
        """Whether a member has done all calls; from then on it has to be woken."""
        with self._lock:
            done = self._words[Mail.CALLS] == self._words[_seen(member.number)]
            member.asleep = done and not self._calling
            return member.asleep

    def begin_in_child(self) -> None:
        """A forked child has none of the threads; new ones start with the next work."""
        self._begin_anew()

    def close(self) -> None:
        """End the threads. The next work starts new ones."""
        roster = self._roster
        if roster is None:
            return
        self._is_started = False
        with self._lock:
            roster.is_open = False
            members = list(roster.members.values())
        if members:
            self._call(_NOTHING, 0)
        with suppress(Empty):
            while roster.members:
                roster.left.get(timeout=_JOIN_TIMEOUT_S)
        for member in members:
            member.join(_JOIN_TIMEOUT_S)
        self._roster = None


def _seen(number: int) -> int:
    return Mail.SEEN + number * LINE_WORDS
