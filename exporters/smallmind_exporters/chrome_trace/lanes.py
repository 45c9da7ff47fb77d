"""Lanes: each running request has a track to itself, which the next one takes over after it."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from smallmind_exporters.chrome_trace.kernels import KernelTrack
from smallmind_exporters.chrome_trace.records import (
    FIRST_KERNEL_LANE,
    FIRST_LANE,
    Record,
    begin,
    end,
    track_name,
)


@dataclass(slots=True)
class Operation:
    """A request, or the loading of a model, that is under way.

    Attributes:
        lane: number of its lane, from 0.
        name: of its outer slice.
        begun_us: when it began.
        phase: name of the open inner slice; empty when none is open.
        latest_us: time of its latest record.
        token_us: when its latest token was known; None before the first.
        kernels: operations of the model that carry its ids.
    """

    lane: int
    name: str
    begun_us: float
    phase: str = ""
    latest_us: float = 0.0
    token_us: float | None = None
    kernels: KernelTrack = field(init=False)

    def __post_init__(self) -> None:
        """Give it the lane's track for operations."""
        name = f"lane {self.lane + 1} kernels"
        self.kernels = KernelTrack(FIRST_KERNEL_LANE + self.lane, name)

    @property
    def track(self) -> int:
        """The track of its slices."""
        return FIRST_LANE + self.lane

    def enter(self, phase: str, ts_us: float, /, **args: object) -> list[Record]:
        """End the open inner slice, told ``args``, and open the next (none when empty)."""
        records = [end(self.track, self.phase, ts_us, **args)] if self.phase else []
        if phase:
            records.append(begin(self.track, phase, ts_us, "phase"))
        self.phase = phase
        self.latest_us = ts_us
        return records


class Lanes:
    """Gives each operation the lowest lane that is free."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._named: set[int] = set()
        self._used = 0
        self._running: dict[str, list[Operation]] = {}

    def begin(
        self, key: str, name: str, ts_us: float, /, **args: object
    ) -> tuple[Operation, list[Record]]:
        """Begin the operation with the id ``key``, and its outer slice with ``args``."""
        if self._free:
            lane = heapq.heappop(self._free)
        else:
            lane, self._used = self._used, self._used + 1
        operation = Operation(lane, name, ts_us, latest_us=ts_us)
        self._running.setdefault(key, []).append(operation)
        records = self.named(operation.track, f"lane {lane + 1}")
        records.append(begin(operation.track, name, ts_us, "request", **args))
        return operation, records

    def named(self, track: int, name: str) -> list[Record]:
        """The records that name a track, at its first use."""
        if track in self._named:
            return []
        self._named.add(track)
        return track_name(track, name)

    def of(self, key: str) -> Operation | None:
        """The latest operation of that id; None when none is running."""
        running = self._running.get(key)
        return running[-1] if running else None

    def end(self, key: str, ts_us: float, /, **args: object) -> list[Record]:
        """End an operation: its inner slice, and its outer one with ``args``."""
        running = self._running[key]
        operation = running.pop()
        if not running:
            del self._running[key]
        heapq.heappush(self._free, operation.lane)
        return [
            *operation.enter("", ts_us),
            end(operation.track, operation.name, ts_us, **args),
        ]

    def end_all(self) -> list[Record]:
        """End what is still running at its latest moment that is known."""
        records = []
        for key in list(self._running):
            while (operation := self.of(key)) is not None:
                records += self.end(key, operation.latest_us, unfinished=True)
        return records
