"""Waiting a moment for readers, so that requests that go in step with them share their steps."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from typing import Final

from smallmind_engine.runtime.work import PAUSED, RequestWork

_MOST_S: Final = 0.002
_STEP_SHARE: Final = 0.1
"""How long a step may wait for readers, at most, and as a share of the step before."""

Notes = queue.SimpleQueue[RequestWork | None]


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
        until = time.perf_counter() + min(self.step_s * _STEP_SHARE, _MOST_S)
        while any(work.stage is PAUSED for work in expected):
            left = until - time.perf_counter()
            if left <= 0.0:
                return
            try:
                work = notes.get(timeout=left)
            except queue.Empty:
                return
            if work is not None:
                receive(work)
