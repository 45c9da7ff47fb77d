"""Writes a snapshot of a store as JSON, and reads it back: what processes tell each other.

Only what the reader's own table knows is read: families are found by name, and series whose
labels or buckets are others (of another version of the package) are left out.
"""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any, Final

from smallmind_exporters.metrics.families import FAMILIES
from smallmind_exporters.metrics.family import Family
from smallmind_exporters.metrics.series import (
    Counter,
    Exemplar,
    Gauge,
    Histogram,
    Series,
    new_series,
)
from smallmind_exporters.metrics.store import Snapshot

SCHEMA: Final = 1
"""Version of the form; a reader leaves out what has another one."""

_BY_NAME: Final = {family.name: family for family in FAMILIES}


def snapshot_to_json(snapshot: Snapshot) -> str:
    """The snapshot as one JSON document. Numbers keep their exact values."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "families": {
                family.name: [[values, _numbers(series)] for values, series in rows.items()]
                for family, rows in snapshot.items()
            },
        },
        separators=(",", ":"),
    )


def snapshot_from_json(text: str) -> Snapshot:
    """The snapshot of a document.

    Raises:
        ValueError: it is no document of ours.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError("not a snapshot of this version")
    snapshot: Snapshot = {}
    try:
        for name, rows in document["families"].items():
            family = _BY_NAME.get(name)
            if family is not None:
                snapshot[family] = {
                    tuple(values): series
                    for values, numbers in rows
                    if len(values) == len(family.labels)
                    and (series := _series(family, numbers)) is not None
                }
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"a damaged snapshot: {error}") from error
    return snapshot


def _numbers(series: Series) -> list[Any]:
    if isinstance(series, Histogram):
        exemplars = [astuple(e) if e is not None else None for e in series.exemplars or ()]
        return [series.bounds, series.counts, series.total, exemplars]
    if isinstance(series, Gauge):
        return [series.value, series.sequence]
    return [series.value] if isinstance(series, Counter) else []


def _series(family: Family, numbers: list[Any]) -> Series | None:
    series = new_series(family)
    if isinstance(series, Histogram):
        bounds, counts, total, exemplars = numbers
        if tuple(bounds) != series.bounds or len(counts) != len(series.counts):
            return None
        series.counts, series.total = list(counts), total
        if series.exemplars is not None and exemplars:
            series.exemplars = [Exemplar(*e) if e is not None else None for e in exemplars]
    elif isinstance(series, Gauge):
        series.value, series.sequence = numbers
    elif isinstance(series, Counter):
        (series.value,) = numbers
    return series
