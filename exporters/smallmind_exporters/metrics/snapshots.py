"""The numbers of a store as a ``Snapshot`` in a log, and a store that begins with them."""

from __future__ import annotations

from smallmind_engine.telemetry import SNAPSHOT_SCHEMA, Correlation, Snapshot
from smallmind_exporters.metrics.family import Family, Stage
from smallmind_exporters.metrics.series import Counter, Exemplar, Gauge, Histogram, Series
from smallmind_exporters.metrics.store import MetricStore


def snapshot_of(
    store: MetricStore, sequence: int, time_ns: int, correlation: Correlation
) -> Snapshot:
    """All numbers of ``store`` at one moment.

    Args:
        store: to read.
        sequence: of the latest event in it.
        time_ns: when this is.
        correlation: of the snapshot itself.
    """
    with store.frozen() as state:
        shown = [
            (family, (model, *values) if model else values, series)
            for model, by_family in state.rows.items()
            for family, rows in by_family.items()
            for values, series in rows.items()
        ]
        histograms = {family for family, _, series in shown if isinstance(series, Histogram)}
        return Snapshot(
            sequence,
            time_ns,
            correlation,
            schema=SNAPSHOT_SCHEMA,
            counted=state.taken,
            series=tuple((f.name, values, _numbers(series)) for f, values, series in shown),
            bounds=tuple(sorted((family.name, family.buckets) for family in histograms)),
            exemplars=tuple(
                (family.name, values, bucket, e.trace_id, e.span_id, e.value, e.wall_s)
                for family, values, series in shown
                if isinstance(series, Histogram)
                for bucket, e in enumerate(series.exemplars or ())
                if e is not None
            ),
            requests=tuple(
                (stage.value, model, request_id, count)
                for stage, model, request_id, count in state.requests.live()
            ),
            invalid_values=int(state.invalid.value),
        )


def restore(store: MetricStore, snapshot: Snapshot) -> None:
    """Let a fresh store begin with the numbers of a snapshot.

    Families that the store does not have are left out, and so are histograms whose buckets have
    other bounds.
    """
    families = {family.name: family for family in store.families}
    bounds = dict(snapshot.bounds)
    with store.frozen() as state:
        for name, values, numbers in snapshot.series:
            family = families.get(name)
            if family is not None and _fits(family, values, bounds.get(name, ())):
                _set(store.series_of(family, values), numbers)
        for name, values, bucket, trace_id, span_id, value, wall_s in snapshot.exemplars:
            family = families.get(name)
            if family is None or not _fits(family, values, bounds.get(name, ())):
                continue
            series = store.series_of(family, values)
            if isinstance(series, Histogram) and series.exemplars is not None:
                series.exemplars[bucket] = Exemplar(trace_id, span_id, value, wall_s)
        for stage, model, request_id, count in snapshot.requests:
            state.requests.put(Stage(stage), model, request_id, count)
        store.count_from(snapshot.counted)
        state.invalid.value = snapshot.invalid_values


def _fits(family: Family, values: tuple[str, ...], bounds: tuple[float, ...]) -> bool:
    return len(values) == len(family.labels) and bounds == family.buckets


def _numbers(series: Series) -> tuple[float, ...]:
    if isinstance(series, Histogram):
        return (series.total, *series.counts)
    if isinstance(series, Gauge):
        return (series.value, series.sequence)
    return (series.value,) if isinstance(series, Counter) else ()


def _set(series: Series, numbers: tuple[float, ...]) -> None:
    if isinstance(series, Histogram):
        series.total = numbers[0]
        series.counts = [int(count) for count in numbers[1:]]
    elif isinstance(series, Gauge):
        series.value, series.sequence = numbers[0], int(numbers[1])
    elif isinstance(series, Counter):
        (series.value,) = numbers
