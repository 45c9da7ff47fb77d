"""Counts the requests that wait and those that run, from the events of their lives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from smallmind_engine.telemetry import Event, EventKind
from smallmind_exporters.metrics.family import Stage

_Key = tuple[str, str]


class RequestTracker:
    """Knows the stage of each live request. Its owner does the locking.

    The depths on the events are not used: threads overtake each other between reading a depth
    and publishing it, and a gauge that took the last one to arrive would stay wrong. Ids that a
    caller gave to several requests at once are counted as often as they occur.
    """

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at: Final[dict[Stage, Counter[_Key]]] = {stage: Counter() for stage in Stage}

    def follow(self, event: Event, model: str) -> None:
        """Take note of one event of a request of ``model``."""
        key = (model, event.correlation.request_id)
        kind = event.kind
        if kind is EventKind.REQUEST_QUEUED:
            self._at[Stage.WAITING][key] += 1
        elif kind is EventKind.REQUEST_ADMITTED:
            self._leave(Stage.WAITING, key)
            self._at[Stage.RUNNING][key] += 1
        elif not self._leave(Stage.RUNNING, key):
            self._leave(Stage.WAITING, key)

    def _leave(self, stage: Stage, key: _Key) -> bool:
        live = self._at[stage]
        count = live[key]
        if count > 1:
            live[key] = count - 1
        elif count:
            del live[key]
        return count > 0

    def counts(self, stage: Stage) -> Counter[str]:
        """Requests at ``stage`` now, by model."""
        totals: Counter[str] = Counter()
        for (model, _), count in tuple(self._at[stage].items()):
            totals[model] += count
        return totals

    def live(self) -> Iterator[tuple[Stage, str, str, int]]:
        """Stage, model, id and count of each request."""
        for stage, requests in self._at.items():
            for (model, request_id), count in requests.items():
                yield stage, model, request_id, count

    def put(self, stage: Stage, model: str, request_id: str, count: int) -> None:
        """Place a request at a stage."""
        self._at[stage][model, request_id] = count

    def clear(self) -> None:
        """Forget all requests."""
        for live in self._at.values():
            live.clear()
