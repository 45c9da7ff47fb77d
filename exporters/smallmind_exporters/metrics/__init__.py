"""The metrics of smallmind: one table of families, and a store that adds events up by it."""

from smallmind_exporters.metrics.families import FAMILIES, PREFIX
from smallmind_exporters.metrics.family import (
    Family,
    Gauging,
    Label,
    MetricKind,
    Reading,
    Stage,
)
from smallmind_exporters.metrics.series import Counter, Exemplar, Gauge, Histogram, Series
from smallmind_exporters.metrics.snapshots import restore, snapshot_of
from smallmind_exporters.metrics.store import MetricStore

__all__ = [
    "FAMILIES",
    "PREFIX",
    "Counter",
    "Exemplar",
    "Family",
    "Gauge",
    "Gauging",
    "Histogram",
    "Label",
    "MetricKind",
    "MetricStore",
    "Reading",
    "Series",
    "Stage",
    "restore",
    "snapshot_of",
]
