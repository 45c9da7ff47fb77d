"""The events of memory: how much of it is in use, by what it is for."""

from __future__ import annotations

from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kinds import EventKind


@event
class MemoryUsage(Event):
    """How much memory a category holds; told when that changes notably, and when a load ends.

    Attributes:
        category: what it is for, such as ``weights`` or ``kv_cache``.
        current_bytes: reserved now.
        high_water_bytes: reserved at most so far.
        limit_bytes: the budget of all categories together; 0 without one.
    """

    kind = EventKind.MEMORY_USAGE

    model: str
    category: str
    current_bytes: int
    high_water_bytes: int
    limit_bytes: int
