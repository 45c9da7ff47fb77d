"""The life of one engine under stress, and whether its books balance at the end."""

from __future__ import annotations

import faulthandler
import gc
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from concurrency.stress import task_ways, thread_ways
from concurrency.stress.balance import balance_of, leftovers
from concurrency.stress.books import CallersBook, EventsBook
from concurrency.stress.caller import Alarms, Caller
from concurrency.stress.disturbers import DISTURBERS, troublemaker
from concurrency.stress.settings import Settings, random_engine
from smallmind import Engine
from smallmind_engine.memory import rss_bytes

JOIN_S: Final = 60.0
DRAIN_S: Final = 2.0
SAMPLE_S: Final = 0.25
ENDS: Final = ("idle", "drain", "close")


@dataclass(slots=True)
class Life:
    """What became of an engine.

    Attributes:
        counts: by name.
        faults: what does not balance; empty when all is well.
        rss: of the process, now and then.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    rss: list[int] = field(default_factory=list)


def live(
    settings: Settings, number: int, path: Path, backend: str, alone: Sequence[tuple[int, ...]]
) -> Life:
    """The life of an engine, and what is left when nobody refers to it any more."""
    before = leftovers()
    life = _lived(settings, number, path, backend, alone)
    life.faults += _what_stays(before)
    return life


def _lived(
    settings: Settings, number: int, path: Path, backend: str, alone: Sequence[tuple[int, ...]]
) -> Life:
    """Load an engine, let everybody at it, stop them in one of three ways, and do the books."""
    rng = random.Random(settings.seed * 1_000_003 + number)  # noqa: S311 - repeatable
    life, callers, events = Life(), CallersBook(), EventsBook()
    stop, let_go, alarms = threading.Event(), threading.Event(), Alarms()
    exporters = [events, *(troublemaker(rng, let_go) for _ in range(2))]
    engine = random_engine(path, backend, rng, exporters)
    compared = alone if engine.model.runner.batch_invariant else None

    def caller(name: str) -> Caller:
        dice = random.Random(rng.random())  # noqa: S311 - repeatable
        return Caller(engine, f"{number}-{name}", dice, callers, alarms, stop, compared)

    tasks = [caller(f"task{i}") for i in range(settings.tasks)]
    works: list[Callable[[], None]] = [lambda: task_ways.work(tasks)]
    works += [_bound(thread_ways.work, caller(f"thread{i}")) for i in range(settings.threads)]
    works += [_bound(disturb, caller(f"around{i}")) for i, disturb in enumerate(DISTURBERS)]
    threads = [threading.Thread(target=_noting(work, callers), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    end = rng.choice(ENDS)
    _watch(life, settings.life_s)
    _finish(engine, end, threads, stop, callers)
    alarms.close()
    gc.collect()
    open_balance = balance_of(engine, callers, events, ended=False)
    if rng.random() < 0.5:
        let_go.set()
    engine.close()
    let_go.set()
    closed_balance = balance_of(engine, callers, events, ended=True)
    life.counts.update(open_balance.counts)
    life.counts.update({f"end {end}": 1, f"lives {backend}": 1})
    life.faults += [*callers.faults, *open_balance.faults, *closed_balance.faults]
    return life


def _bound(function: Callable[[Caller], None], me: Caller) -> Callable[[], None]:
    return lambda: function(me)


def _noting(work: Callable[[], None], book: CallersBook) -> Callable[[], None]:
    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is a fault
            book.fault(f"a thread ended with {error!r}")

    return run


def _watch(life: Life, seconds: float) -> None:
    pause = threading.Event()
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        pause.wait(min(SAMPLE_S, left))
        rss = rss_bytes()
        if rss is not None:
            life.rss.append(rss)


def _finish(
    engine: Engine,
    end: str,
    threads: Sequence[threading.Thread],
    stop: threading.Event,
    book: CallersBook,
) -> None:
    """Bring all callers to their end; under ``close`` and ``drain`` in the midst of things."""
    if end == "close":
        engine.close()
    elif end == "drain":
        book.count("drained in time" if engine.drain(DRAIN_S) else "not drained in time")
    stop.set()
    until = time.monotonic() + JOIN_S
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            book.fault(f"{thread.name} did not come to its end")
            faulthandler.dump_traceback(all_threads=True)


def _what_stays(before: Counter[str]) -> list[str]:
    """Threads and files that were not there before, after a while for those about to end."""
    pause = threading.Event()
    for _ in range(1000):
        gc.collect(0)
        more = leftovers() - before
        if not more:
            return []
        pause.wait(0.01)
    return [f"left behind: {dict(more)}"]
