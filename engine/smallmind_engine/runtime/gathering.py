"""Waiting a moment for those who are about to come, so that requests share their steps."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from typing import Final

from smallmind_engine.runtime.work import PAUSED, RequestWork

_MOST_S: Final = 0.002
_STEP_SHARE: Final = 0.1
"""How long a step may wait for readers, at most, and as a share of the step before."""

_NEXT_S: Final = 0.005
_BURST_S: Final = 0.02
"""How long the first step of a burst may wait for the next request, and for all of them. Threads
give the interpreter away after five milliseconds (``sys.getswitchinterval``)."""

Notes = queue.SimpleQueue[RequestWork | None]


def gather_burst(
    expects_more: Callable[[], bool], notes: Notes, receive: Callable[[RequestWork], None]
) -> None:
    """Wait for requests that are about to be submitted, as long as one comes after the other.

    Callers who come all at once prepare their prompts on the cores that a step needs. If the first
    step began with the first of them, it would take several times as long, and those who come in
    the next steps would end in steps of their own, too.

    Args:
        expects_more: whether somebody is about to submit a request.
        notes: tell of those that were.
        receive: takes a note.
    """
    _receive_while(expects_more, notes, receive, most_s=_BURST_S, next_s=_NEXT_S)


def _receive_while(
    wanted: Callable[[], bool],
    notes: Notes,
    receive: Callable[[RequestWork], None],
    *,
    most_s: float,
    next_s: float,
) -> None:
    """Take notes as they come while they are ``wanted``, ``most_s`` seconds for all at most.

    When ``next_s`` seconds go by without one, no more are waited for.
    """
    until = time.perf_counter() + most_s
    while wanted():
        left = min(until - time.perf_counter(), next_s)
        if left <= 0.0:
            return
        try:
            work = notes.get(timeout=left)
        except queue.Empty:
            return
        if work is not None:
            receive(work)


class ReaderGathering:
    """Knows whose readers are likely to be back soon: those that took part in the last step.

    A reader that stays away is not waited for again before it has come back.

    Attributes:
        step_s: what the last step took.
        expected: requests that got a token, and whose readers have not come for the next.
    """

    def __init__(self) -> None:
        self.step_s = 0.0
        self.expected: list[RequestWork] = []

    def expect(self, work: RequestWork) -> None:
        """A request got a token, and waits for its reader to come for the next."""
        self.expected.append(work)

    def gather(
        self, live: Sequence[RequestWork], notes: Notes, receive: Callable[[RequestWork], None]
    ) -> None:
        """Wait until all expected readers are back, but not for long.

        Args:
            live: admitted requests. When none of them is ready for a step, nothing is lost by
                waiting, and whoever calls does so.
            notes: tell of readers that come back.
            receive: takes a note.
        """
        if not self.expected or all(work.stage is PAUSED for work in live):
            return
        expected, self.expected = self.expected, []
        most_s = min(self.step_s * _STEP_SHARE, _MOST_S)

        def some_stay_away() -> bool:
            return any(work.stage is PAUSED for work in expected)

        _receive_while(some_stay_away, notes, receive, most_s=most_s, next_s=most_s)
