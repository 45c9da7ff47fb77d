"""The queue of requests: the most urgent first, and whoever waits becomes more urgent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from smallmind_engine.runtime.work import RequestWork

AGING_NS: Final = 1_000_000_000
"""Waiting so long counts as much as a step of priority, so that nobody waits for ever."""


class RequestQueue:
    """First come, first served within a priority. Belongs to the scheduler's thread.

    Attributes:
        lines: by priority; there is none that nobody stands in.
    """

    def __init__(self) -> None:
        self.lines: dict[int, deque[RequestWork]] = {}

    def __len__(self) -> int:
        return sum(len(line) for line in self.lines.values())

    def __iter__(self) -> Iterator[RequestWork]:
        for line in self.lines.values():
            yield from line

    def add(self, work: RequestWork) -> None:
        """Stand at the end of the line of its priority."""
        self.lines.setdefault(work.request.options.priority, deque()).append(work)

    def first(self) -> RequestWork | None:
        """Who is next. All age alike, so that only the times of arrival count, not the time now."""
        heads = [line[0] for line in self.lines.values() if line]
        if not heads:
            return None
        return min(heads, key=_rank)

    def remove(self, work: RequestWork) -> None:
        """Leave the queue."""
        priority = work.request.options.priority
        line = self.lines[priority]
        line.remove(work)
        if not line:
            del self.lines[priority]


def _rank(work: RequestWork) -> tuple[int, int]:
    return work.submitted_ns - work.request.options.priority * AGING_NS, work.submitted_ns
