"""The metrics of the service as a whole, and of telemetry itself."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import Degraded, RuntimeLogEvent
from smallmind_exporters.metrics import labels
from smallmind_exporters.metrics.family import Family, MetricKind, Stability, rows

# Three that the store and the collector count themselves.
INVALID_VALUES: Final = Family(
    name="telemetry_invalid_values_total",
    kind=MetricKind.COUNTER,
    help="Readings left out because they were negative, infinite or not a number.",
    annotation="{value}",
)

EVENTS: Final = Family(
    name="telemetry_events_total",
    kind=MetricKind.COUNTER,
    help="Events that were added up to these metrics.",
    annotation="{event}",
)
PROCESSES: Final = Family(
    name="telemetry_processes",
    kind=MetricKind.GAUGE,
    help="Processes whose numbers these metrics show together.",
    annotation="{process}",
)

TELEMETRY_FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="degraded_total",
        kind=MetricKind.COUNTER,
        help="Times that something began to work less well than asked for.",
        annotation="{event}",
        labels=(labels.DEGRADE_REASON,),
        readings=(rows(Degraded, lambda e: (((e.reason,), 1),)),),
    ),
    Family(
        name="log_events_total",
        kind=MetricKind.COUNTER,
        help="Log events by severity.",
        annotation="{event}",
        labels=(labels.LEVEL,),
        readings=(rows(RuntimeLogEvent, lambda e: (((e.level.name.lower(),), 1),)),),
    ),
    Family(
        name="telemetry_exporter_errors_total",
        kind=MetricKind.COUNTER,
        help="Exceptions raised by exporters; requests went on.",
        annotation="{error}",
        labels=(labels.EXPORTER,),
        health=lambda health: health.errors,
    ),
    Family(
        name="telemetry_events_dropped_total",
        kind=MetricKind.COUNTER,
        help="Events lost because the queue of a slow exporter was full.",
        annotation="{event}",
        labels=(labels.EXPORTER,),
        health=lambda health: health.dropped,
    ),
    Family(
        name="telemetry_overhead_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time that exporters took of the threads that publish; frequent events are sampled.",
        unit="seconds",
        labels=(labels.EXPORTER,),
        health=lambda health: health.publish_s,
        otel="telemetry.overhead",
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="telemetry_export_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time that exporters worked behind their queues, in threads of their own.",
        unit="seconds",
        labels=(labels.EXPORTER,),
        health=lambda health: health.export_s,
        otel="telemetry.export.time",
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="telemetry_events_shed_total",
        kind=MetricKind.COUNTER,
        help="Events not built because telemetry exceeded its budget; a step's operations are one.",
        annotation="{event}",
        labels=(labels.EXPORTER,),
        health=lambda health: health.shed,
        stability=Stability.DEVELOPMENT,
    ),
    INVALID_VALUES,
    EVENTS,
    PROCESSES,
)
