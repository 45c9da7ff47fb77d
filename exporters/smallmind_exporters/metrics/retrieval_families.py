"""The families of retrievals: a part of the table of metrics."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import RetrievalEnded
from smallmind_exporters.metrics import buckets, labels, readings
from smallmind_exporters.metrics.family import Family, MetricKind, Stability, one, rows

RETRIEVAL_FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="retrievals_total",
        kind=MetricKind.COUNTER,
        help="Retrievals that ended, in whatever way.",
        annotation="{retrieval}",
        labels=(labels.RETRIEVAL_MODE, labels.STATUS),
        readings=(rows(RetrievalEnded, lambda e: (((e.mode, e.status), 1),)),),
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="retrieval_duration_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Time from the question to its sources.",
        unit="seconds",
        labels=(labels.RETRIEVAL_MODE, labels.STATUS),
        buckets=buckets.FIRST_TOKEN,
        readings=(rows(RetrievalEnded, lambda e: (((e.mode, e.status), e.duration_s),)),),
        exemplars=True,
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="retrieval_phase_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time of retrievals by phase.",
        unit="seconds",
        labels=(labels.RETRIEVAL_PHASE,),
        readings=(rows(RetrievalEnded, lambda e: [((p,), s) for p, s in e.phases]),),
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="retrieval_chunks_total",
        kind=MetricKind.COUNTER,
        help="Chunks of text that retrievals gave back.",
        annotation="{chunk}",
        readings=(one(RetrievalEnded, lambda e: e.returned),),
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="retrieval_insufficient_total",
        kind=MetricKind.COUNTER,
        help="Retrievals whose sources could not bear an answer.",
        annotation="{retrieval}",
        labels=(labels.RETRIEVAL_REASON,),
        readings=(rows(RetrievalEnded, readings.insufficient_rows),),
        stability=Stability.DEVELOPMENT,
    ),
)
