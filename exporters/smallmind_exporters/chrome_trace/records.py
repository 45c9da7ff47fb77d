"""Records of the Trace Event Format: plain JSON objects with short names.

Source: "Trace Event Format", Google, sections "Duration Events", "Complete Events",
"Instant Events", "Counter Events" and "Metadata Events". Times are microseconds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Final

Record = dict[str, Any]

ENGINE_TRACK: Final = 1
SCHEDULER_TRACK: Final = 2
FIRST_STEP_KERNELS: Final = 3
FIRST_LANE: Final = 100
FIRST_KERNEL_LANE: Final = 10_000


class Clock:
    """Turns the events' nanoseconds into microseconds since the first of them."""

    __slots__ = ("_base_ns",)

    def __init__(self) -> None:
        self._base_ns: int | None = None

    def us(self, time_ns: int) -> float:
        """Microseconds with three decimals; never negative, whatever threads overtake."""
        if self._base_ns is None:
            self._base_ns = time_ns
        return max(0, time_ns - self._base_ns) / 1000


def _record(phase: str, track: int, name: str, ts_us: float) -> Record:
    return {"ph": phase, "pid": os.getpid(), "tid": track, "ts": ts_us, "name": name}


def _finite(args: Mapping[str, object]) -> Record:
    """Details of a record; numbers that JSON does not have become text."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in args.items()
    }


def microseconds(seconds: float) -> float:
    """A duration with three decimals; 0 for what can be none."""
    return round(seconds * 1e6, 3) if 0.0 <= seconds < math.inf else 0.0


def begin(track: int, name: str, ts_us: float, category: str, /, **args: object) -> Record:
    """A slice begins."""
    return {**_record("B", track, name, ts_us), "cat": category, "args": _finite(args)}


def end(track: int, name: str, ts_us: float, /, **args: object) -> Record:
    """The innermost slice that is open on the track ends."""
    return {**_record("E", track, name, ts_us), "args": _finite(args)}


def complete(
    track: int, name: str, ts_us: float, duration_us: float, category: str, /, **args: object
) -> Record:
    """A slice from beginning to end."""
    return {
        **_record("X", track, name, ts_us),
        "dur": duration_us,
        "cat": category,
        "args": _finite(args),
    }


def instant(track: int, name: str, ts_us: float, category: str, /, **args: object) -> Record:
    """A moment on a track."""
    return {**_record("i", track, name, ts_us), "s": "t", "cat": category, "args": _finite(args)}


def counter(name: str, ts_us: float, /, **values: float) -> Record:
    """New values of a counter track."""
    return {**_record("C", 0, name, ts_us), "args": values}


def track_name(track: int, name: str) -> list[Record]:
    """Name a track, and give it its place from the top."""
    return [
        {**_record("M", track, "thread_name", 0), "args": {"name": name}},
        {**_record("M", track, "thread_sort_index", 0), "args": {"sort_index": track}},
    ]


def process_name(name: str) -> Record:
    """Name the process."""
    return {**_record("M", 0, "process_name", 0), "args": {"name": name}}
