"""What was counted up to a moment, so that a log whose beginning is gone can still be replayed."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry.event_record import event
from smallmind_engine.telemetry.events import Event
from smallmind_engine.telemetry.kinds import EventKind

SNAPSHOT_SCHEMA: Final = 1
"""Version of the rows below; a reader leaves snapshots of other versions alone."""


@event
class Snapshot(Event):
    """The metrics of a process as they were after some number of events.

    Written by exporters that keep a log, at the beginning of each of its files and now and then;
    never published on a bus. Its ``sequence`` is the highest among the events it counts.

    Attributes:
        schema: version of the rows.
        counted: events that are in it.
        series: ``(family, label values, numbers)``. Numbers are the value of a counter; value and
            sequence of a gauge; sum and counts by bucket of a histogram.
        bounds: ``(family, upper bounds)`` of the histograms' buckets, without infinity.
        exemplars: ``(family, label values, bucket, trace id, span id, value, wall seconds)``.
        requests: ``(stage, model, request id, count)`` of the requests that waited or ran.
        invalid_values: readings that were left out.
    """

    kind = EventKind.SNAPSHOT

    schema: int
    counted: int
    series: tuple[tuple[str, tuple[str, ...], tuple[float, ...]], ...] = ()
    bounds: tuple[tuple[str, tuple[float, ...]], ...] = ()
    exemplars: tuple[tuple[str, tuple[str, ...], int, str, str, float, float], ...] = ()
    requests: tuple[tuple[str, str, str, int], ...] = ()
    invalid_values: int = 0
