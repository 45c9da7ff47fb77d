"""The metrics of smallmind: one table of families, and a store that adds events up by it."""

from smallmind_exporters.metrics.families import FAMILIES, PREFIX
from smallmind_exporters.metrics.family import (
    Family,
    Gauging,
    Label,
    MetricKind,
    Reading,
    Stability,
    Stage,
)
from smallmind_exporters.metrics.opentelemetry import (
    Instrument,
    convention_attributes,
    otel_attribute,
    otel_instrument,
    otel_name,
    otel_unit,
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
    "Instrument",
    "Label",
    "MetricKind",
    "MetricStore",
    "Reading",
    "Series",
    "Stability",
    "Stage",
    "convention_attributes",
    "otel_attribute",
    "otel_instrument",
    "otel_name",
    "otel_unit",
    "restore",
    "snapshot_of",
]
