"""The clock of all events: monotonic nanoseconds, and one anchor that ties them to wall time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

now_ns: Final = time.perf_counter_ns


@dataclass(frozen=True, slots=True)
class ClockAnchor:
    """The same moment read on both clocks.

    Attributes:
        monotonic_ns: reading of ``now_ns``.
        wall_ns: nanoseconds since the Unix epoch.
    """

    monotonic_ns: int
    wall_ns: int

    def to_wall_ns(self, monotonic_ns: int) -> int:
        """Translate an event's ``time_ns`` into nanoseconds since the Unix epoch."""
        return self.wall_ns + (monotonic_ns - self.monotonic_ns)


ANCHOR: Final = ClockAnchor(now_ns(), time.time_ns())
