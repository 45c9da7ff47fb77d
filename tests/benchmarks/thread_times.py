"""Processor time by thread."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping


def thread_times() -> Counter[str]:
    """Nanoseconds that the threads which Python started have run so far, by name.

    Threads of one name are added up.
    """
    found: Counter[str] = Counter()
    for thread in threading.enumerate():
        if thread.ident is not None:
            clock = time.pthread_getcpuclockid(thread.ident)
            found[thread.name] += time.clock_gettime_ns(clock)
    return found


def spent(before: Mapping[str, int], after: Mapping[str, int]) -> Counter[str]:
    """What each thread ran between two readings."""
    return Counter({name: ran - before.get(name, 0) for name, ran in after.items()})
