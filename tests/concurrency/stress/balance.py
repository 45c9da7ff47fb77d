"""The books of an engine's life: pairs of numbers that must be equal."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from concurrency.stress.books import CallersBook, EventsBook, Seen
from smallmind import Engine, StopReason
from smallmind_engine.runtime.observer import status_of
from smallmind_engine.telemetry import RequestStatus

_FILES = Path("/proc/self/fd")
_TASKS = Path("/proc/self/task")


@dataclass(slots=True)
class Balance:
    """Numbers for the table, and what is not equal although it must be."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def equal(self, what: str, one: object, other: object) -> None:
        """These two must be."""
        if one != other:
            self.faults.append(f"{what}: {one} != {other}")


def balance_of(engine: Engine, callers: CallersBook, events: EventsBook, *, ended: bool) -> Balance:
    """The balance when all callers have gone.

    Args:
        engine: without requests.
        callers: what they saw.
        events: what was told.
        ended: whether the engine was closed, so that nothing may be left.
    """
    balance = Balance()
    _requests(balance, callers, events)
    _engine(balance, engine, callers, events)
    if ended:
        stats = engine.stats()
        balance.equal("blocks left after close", stats.kv_blocks_used, 0)
        for usage in engine.memory:
            name = f"bytes of {usage.category} reserved after close"
            balance.equal(name, usage.current_bytes, 0)
    return balance


def _requests(balance: Balance, callers: CallersBook, events: EventsBook) -> None:
    """Each request ended once, with the reason that its caller saw."""
    counts = balance.counts
    for way, count in callers.ways.items():
        counts[f"way {way}"] += count
    seen_statuses: Counter[RequestStatus] = Counter()
    told_statuses: Counter[RequestStatus] = Counter()
    for request_id, (seen, reason) in callers.ends.items():
        told = events.told.get(request_id)
        stops = [] if told is None else told.stops
        if len(stops) not in seen.stops:
            balance.faults.append(f"{request_id} ended {len(stops)} times, seen {seen.name}")
        counts[f"seen {seen.name.lower()}"] += 1
        if seen is Seen.TOLD and reason is not None:
            seen_statuses[status_of(reason)] += 1
            told_statuses.update(status_of(stop) for stop in stops)
            if stops != [reason]:
                balance.faults.append(f"{request_id} ended for its caller with {reason}: {stops}")
    balance.equal("ends by status", seen_statuses, told_statuses)
    unknown = events.told.keys() - callers.ends.keys()
    balance.equal("requests told of that nobody made", sorted(unknown)[:5], [])


def _engine(balance: Balance, engine: Engine, callers: CallersBook, events: EventsBook) -> None:
    """What came in went out."""
    stats, told = engine.stats(), events.told.values()
    reasons = Counter(stop for each in told for stop in each.stops)
    full = reasons[StopReason.BACKPRESSURE_QUEUE_FULL]
    balance.counts.update({f"ended {reason.value}": n for reason, n in reasons.items()})
    balance.counts.update(
        {
            "submitted": stats.submitted,
            "ended": stats.ended,
            "rejected": stats.rejected,
            "started": sum(each.started for each in told),
            "blocks rented": stats.kv_blocks_rented,
            "blocks returned": stats.kv_blocks_returned,
            "blocks kept for prefixes": stats.prefix_blocks_idle,
            "blocks evicted": stats.evicted_blocks,
            "steps": stats.steps,
            "tokens": stats.decode_tokens + stats.prefill_tokens,
        }
    )
    started = [each for each in told if each.started]
    balance.equal("submitted = ended", stats.submitted, stats.ended)
    balance.equal("queue places", (stats.queue_depth, stats.running, stats.paused), (0, 0, 0))
    balance.equal("rejected = queue-full errors", stats.rejected, full)
    balance.equal(
        "started = ended", sum(each.started for each in started), sum(len(e.stops) for e in started)
    )
    balance.equal(
        "blocks rented = returned + kept",
        stats.kv_blocks_rented,
        stats.kv_blocks_returned + stats.prefix_blocks_idle,
    )
    balance.equal("blocks used = kept", stats.kv_blocks_used, stats.prefix_blocks_idle)


def leftovers() -> Counter[str]:
    """Threads by name, and open files, where the system tells."""
    found = Counter(f"thread {thread.name}" for thread in threading.enumerate())
    for what, folder in (("files", _FILES), ("system threads", _TASKS)):
        if folder.exists():
            found[what] = len(os.listdir(folder))
    return found
