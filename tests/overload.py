"""Far more requests than an engine can serve, for a while: what becomes of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from smallmind import Engine, SmallMindError
from smallmind_engine.memory import rss_bytes
from smallmind_engine.telemetry.errors import BackpressureError


@dataclass(slots=True)
class Overload:
    """What became of requests.

    Attributes:
        outcomes: how many ended in which way: a stop reason, or the reason of an error.
        admitted_s: seconds from the call to its end, of those that ran.
        rejected_s: the same of those that were turned away.
        unclear: errors that are no clear rejection.
        rss: bytes of the process, from time to time.
        most_waiting: the longest queue that was seen.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    admitted_s: list[float] = field(default_factory=list)
    rejected_s: list[float] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)
    most_waiting: int = 0


def overload(
    engine: Engine,
    ask: Callable[[int], str],
    *,
    callers: int,
    seconds: float | None = None,
    each: int | None = None,
    pause_s: float = 0.002,
) -> Overload:
    """Let many callers ask again and again, all at once.

    Args:
        engine: that is asked.
        ask: asks once, and answers the stop reason; gets the number of the request.
        callers: threads.
        seconds: for how long; None with ``each``.
        each: requests of each caller; None with ``seconds``.
        pause_s: how long a caller waits who was turned away.
    """
    seen, lock = Overload(), threading.Lock()
    start = threading.Barrier(callers + 1)
    ended = threading.Event()

    def call(number: int) -> None:
        start.wait(60)
        turn = 0
        while turn < each if each is not None else not ended.is_set():
            begin = time.perf_counter()
            try:
                outcome, kind = ask(number * 100_000 + turn), seen.admitted_s
            except BackpressureError as error:
                outcome, kind = error.reason.value, seen.rejected_s
                clear = error.details.get("limit") is not None and error.hint
                if not clear:
                    seen.unclear.append(repr(error))
                ended.wait(pause_s)
            except SmallMindError as error:
                outcome, kind = error.reason.value, []
                seen.unclear.append(repr(error))
            with lock:
                seen.outcomes[outcome] += 1
                kind.append(time.perf_counter() - begin)
            turn += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    start.wait(60)
    _watch(engine, seen, threads, ended, seconds)
    for thread in threads:
        thread.join()
    return seen


def _watch(
    engine: Engine,
    seen: Overload,
    threads: list[threading.Thread],
    ended: threading.Event,
    seconds: float | None,
) -> None:
    """Look at the queue and the memory until all have ended, as they do when the time is up."""
    until = None if seconds is None else time.monotonic() + seconds
    while any(thread.is_alive() for thread in threads):
        seen.most_waiting = max(seen.most_waiting, engine.stats().queue_depth)
        rss = rss_bytes()
        if rss is not None:
            seen.rss.append(rss)
        threads[0].join(0.02)
        if until is not None and time.monotonic() > until:
            ended.set()
