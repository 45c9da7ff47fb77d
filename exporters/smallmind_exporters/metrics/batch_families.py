"""The metrics of the scheduler: what goes through the model together."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import BatchStepped
from smallmind_exporters.metrics import buckets, labels
from smallmind_exporters.metrics.family import Family, MetricKind, Stability, one

BATCH_FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="batch_sequences",
        kind=MetricKind.HISTOGRAM,
        help="Requests that took part in a step of the model.",
        annotation="{request}",
        labels=(labels.MODEL,),
        buckets=buckets.SEQUENCES,
        readings=(one(BatchStepped, lambda e: e.sequences),),
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="batch_step_seconds",
        kind=MetricKind.HISTOGRAM,
        help="Time of a step of the model, without what followed for each request.",
        unit="seconds",
        labels=(labels.MODEL,),
        buckets=buckets.INTER_TOKEN,
        readings=(one(BatchStepped, lambda e: e.duration_s),),
        stability=Stability.DEVELOPMENT,
    ),
    Family(
        name="batch_tokens_total",
        kind=MetricKind.COUNTER,
        help="Tokens that went through steps of the model.",
        unit="tokens",
        labels=(labels.MODEL, labels.BATCH_KIND),
        readings=(
            one(BatchStepped, lambda e: e.prefill_tokens, "prefill"),
            one(BatchStepped, lambda e: e.decode_tokens, "decode"),
        ),
        stability=Stability.DEVELOPMENT,
    ),
)
