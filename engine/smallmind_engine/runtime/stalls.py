"""Finds tokens that Python or the system held up: collections, page faults, lost cores."""

from __future__ import annotations

import gc
import math
import sys
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from smallmind_engine.telemetry import StallCause, now_ns
from smallmind_engine.telemetry.insight_events import GENERATIONS

PAUSE_NS: Final = 5_000_000
"""A collector that paused so long within a step is told of, whatever the step took."""
LATE_FACTOR: Final = 3.0
LATE_NS: Final = 5_000_000
"""A step is late when it takes three times as long as usual, and five milliseconds more."""
_NO_PAUSES: Final = (0,) * GENERATIONS
_KEPT: Final = 31
_ENOUGH: Final = 8
LOOK_EVERY: Final = 8
"""Steps from one look at what the system counted to the next: it costs some 20 microseconds, where
a step has left the caches cold."""
_MANY_MAPPED: Final = 1_000  # minor faults that take about a millisecond


class Usage(NamedTuple):
    """What the system counted so far.

    Attributes:
        minor_faults: pages mapped, of the process.
        major_faults: pages read from disk, of the process.
        switches: times that this thread lost its core.
    """

    minor_faults: int
    major_faults: int
    switches: int


if sys.platform == "win32":

    def read_usage() -> Usage:
        """Nothing: the system counts them, but Python does not tell."""
        return Usage(0, 0, 0)

else:
    import resource

    # Weights are read by threads of the kernels too, so their page faults count.
    _PROCESS: Final = resource.RUSAGE_SELF
    _THREAD: Final = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)

    def read_usage() -> Usage:
        """The counts of the process, and of this thread."""
        process, thread = resource.getrusage(_PROCESS), resource.getrusage(_THREAD)
        return Usage(process.ru_minflt, process.ru_majflt, thread.ru_nivcsw)


class GcPauses:
    """Adds up the pauses of the garbage collector, in whichever thread it runs.

    Args:
        clock: monotonic nanoseconds.

    Attributes:
        count: how many there were.
        ns: their nanoseconds, by generation.
    """

    __slots__ = ("_begin_ns", "_clock", "count", "ns")

    def __init__(self, clock: Callable[[], int] = now_ns) -> None:
        self._clock = clock
        self._begin_ns = 0
        self.count = 0
        self.ns = [0] * GENERATIONS

    def listen(self) -> None:
        """Begin to count."""
        gc.callbacks.append(self.told)

    def stop(self) -> None:
        """Stop counting."""
        if self.told in gc.callbacks:
            gc.callbacks.remove(self.told)

    def told(self, phase: str, info: dict[str, Any]) -> None:
        """Called by the collector when it begins and ends; it never runs twice at once."""
        if phase == "start":
            self._begin_ns = self._clock()
        elif self._begin_ns:
            self.ns[info["generation"]] += self._clock() - self._begin_ns
            self._begin_ns = 0
            self.count += 1


class Stall(NamedTuple):
    """A step that was late; see ``RuntimeStalled``."""

    duration_s: float
    typical_s: float
    cause: StallCause
    gc_s: tuple[float, ...]
    usage: Usage


class _Usual:
    """The last steps of one shape.

    Attributes:
        recent: what they took, in nanoseconds.
        until_median: steps until their median is looked at again.
        typical_ns: that median; 0 while too few are known.
        late_ns: a step that takes longer is late.
    """

    __slots__ = ("late_ns", "recent", "typical_ns", "until_median")

    def __init__(self) -> None:
        self.recent: deque[int] = deque(maxlen=_KEPT)
        self.until_median = _ENOUGH
        self.typical_ns = 0
        self.late_ns: float = math.inf

    def renew(self) -> None:
        """Look at the median."""
        self.until_median = _ENOUGH
        self.typical_ns = sorted(self.recent)[len(self.recent) // 2]
        self.late_ns = self.typical_ns + max(LATE_NS, (LATE_FACTOR - 1.0) * self.typical_ns)


class StallWatch:
    """Watches the steps of the scheduler's thread, as long as somebody wants to know.

    Args:
        pauses: of the collector.
        usage: reads what the system counted.

    Attributes:
        watching: whether it does.
        waited: whether there was nothing to do since the last step.
        pauses: as given.
        gc_count: how many of them it has looked at.
    """

    def __init__(
        self, pauses: GcPauses | None = None, usage: Callable[[], Usage] = read_usage
    ) -> None:
        self.pauses = pauses or GcPauses()
        self._usage = usage
        self._usual: defaultdict[int, _Usual] = defaultdict(_Usual)
        self._seen = Usage(0, 0, 0)
        self._until_look = LOOK_EVERY
        self._gc_seen: tuple[int, ...] = _NO_PAUSES
        self.gc_count = 0
        self.waited = True
        self._before_ns = 0
        self.watching = False

    def begin(self) -> None:
        """A step begins. Needed only when ``waited``, or when the collector ran since the last."""
        if not self.watching:
            self.watching = self.waited = True
            self.pauses.listen()
        if self.waited:  # what happened while there was nothing to do delayed nobody
            self.waited = False
            self._look_at_pauses()
            self._seen = self._usage()
            self._until_look = LOOK_EVERY
        collected = self.pauses.count != self.gc_count
        self._before_ns = sum(self.pauses.ns) - sum(self._gc_seen) if collected else 0

    def end(self, step_ns: int, sequences: int) -> Stall | None:
        """A step ended; tells of it when it was late. Hot path while it is wanted.

        Args:
            step_ns: what it took.
            sequences: requests that decoded in it; 0 when prompts were computed too, for such
                steps have no usual time.
        """
        if not self.watching:
            return None
        # Nothing is called here unless there is something to tell: where a step has left the caches
        # cold, a call costs microseconds.
        duration_ns = step_ns
        if self._before_ns:
            duration_ns += self._before_ns
            self._before_ns = 0
        typical_ns, late = 0, False
        if sequences:
            usual = self._usual[sequences]
            typical_ns, late = usual.typical_ns, duration_ns > usual.late_ns
            usual.recent.append(duration_ns)
            usual.until_median -= 1
            if not usual.until_median:
                usual.renew()
        self._until_look -= 1
        if late or not self._until_look or self.pauses.count != self.gc_count:
            return self._look(duration_ns, typical_ns, late=late)
        return None

    def _look(self, duration_ns: int, typical_ns: int, *, late: bool) -> Stall | None:
        """Find out what the collector and the system did in a step, and whether it is told."""
        collected = self.pauses.count != self.gc_count
        paused = self._look_at_pauses() if collected else _NO_PAUSES
        stalled = late or sum(paused) >= PAUSE_NS
        if not stalled and self._until_look > 0:
            return None
        before, self._seen = self._seen, self._usage()
        self._until_look = LOOK_EVERY
        if not stalled:
            return None
        counted = Usage(*(now - then for now, then in zip(self._seen, before, strict=True)))
        delay_ns = duration_ns - typical_ns if late else 0
        cause = _cause(sum(paused), delay_ns, counted)
        gc_s = tuple(ns / 1e9 for ns in paused)
        return Stall(duration_ns / 1e9, typical_ns / 1e9, cause, gc_s, counted)

    def _look_at_pauses(self) -> tuple[int, ...]:
        """Nanoseconds by generation since the last look."""
        self.gc_count = self.pauses.count
        before, self._gc_seen = self._gc_seen, tuple(self.pauses.ns)
        return tuple(now - then for now, then in zip(self._gc_seen, before, strict=True))

    def rest(self, *, idle: bool) -> None:
        """Nothing can be computed now; without any request there is nothing to watch either."""
        self.waited = True
        if idle and self.watching:
            self.stop()

    def stop(self) -> None:
        """Take the callback off the collector."""
        self.watching = False
        self.waited = True
        self.pauses.stop()


def _cause(paused_ns: int, delay_ns: int, counted: Usage) -> StallCause:
    if paused_ns * 2 >= delay_ns:
        return StallCause.GC
    if counted.major_faults or counted.minor_faults >= _MANY_MAPPED:
        return StallCause.PAGE_FAULTS
    return StallCause.PREEMPTED if counted.switches else StallCause.UNKNOWN
