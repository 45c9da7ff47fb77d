"""Histograms as the SDK's own data, made from the store when metrics are collected.

An SDK's histogram takes ten microseconds and more for each value, which counts for values of every
token or step, and ten times that where a step has left the caches cold. No instrument takes a
histogram that is ready made; an export does.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation

from smallmind_exporters.metrics import FAMILIES, Family, Histogram, MetricKind, MetricStore
from smallmind_exporters.metrics.opentelemetry import otel_attribute, otel_name, otel_unit
from smallmind_exporters.metrics.store import LabelValues, Snapshot

READY_MADE: Final = tuple(
    family
    for family in FAMILIES
    if family.kind is MetricKind.HISTOGRAM and not family.exemplars and not family.convention
)
"""Those whose attributes are the table's labels, and that no exemplars go with."""


def takes_ready_made(exporter: MetricExporter) -> bool:
    """Whether histograms are sent as the store counts them.

    That is as totals since the beginning, rather than as differences, and in buckets with bounds.
    """
    temporality = exporter._preferred_temporality or {}  # noqa: SLF001 - as the SDK's own reader does
    aggregation = exporter._preferred_aggregation or {}  # noqa: SLF001 - the same
    differences = temporality.get(HistogramInstrument) is AggregationTemporality.DELTA
    exponential = isinstance(
        aggregation.get(HistogramInstrument), ExponentialBucketHistogramAggregation
    )
    return not differences and not exponential


class ReadyMade:
    """Adds such histograms to what was collected from instruments.

    Args:
        store: counts them.
    """

    def __init__(self, store: MetricStore) -> None:
        self._store = store
        self._begin_ns = time.time_ns()

    def added_to(self, collected: MetricsData) -> MetricsData:
        """The same collection, with our histograms in our scope."""
        ours = self._metrics(self._store.snapshot())
        (resource, *others) = collected.resource_metrics
        (scope, *rest) = resource.scope_metrics
        scope = replace(scope, metrics=[*scope.metrics, *ours])
        resource = replace(resource, scope_metrics=[scope, *rest])
        return replace(collected, resource_metrics=[resource, *others])

    def _metrics(self, snapshot: Snapshot) -> list[Metric]:
        now_ns = time.time_ns()
        found = []
        for family in READY_MADE:
            points = [
                self._point(family, values, series, now_ns)
                for values, series in snapshot[family].items()
                if isinstance(series, Histogram) and any(series.counts)
            ]
            if points:
                data = HistogramData(points, AggregationTemporality.CUMULATIVE)
                found.append(Metric(otel_name(family), family.help, otel_unit(family), data))
        return found

    def _point(
        self, family: Family, values: LabelValues, series: Histogram, now_ns: int
    ) -> HistogramDataPoint:
        names = (otel_attribute(label) for label in family.labels)
        return HistogramDataPoint(
            attributes=dict(zip(names, values, strict=True)),
            start_time_unix_nano=self._begin_ns,
            time_unix_nano=now_ns,
            count=sum(series.counts),
            sum=series.total,
            bucket_counts=series.counts,
            explicit_bounds=series.bounds,
            min=None,  # type: ignore[arg-type]  # not known; optional in OTLP
            max=None,  # type: ignore[arg-type]  # the same
        )
