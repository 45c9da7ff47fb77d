"""The metrics that explain: late tokens, how sure the model was, and where numbers ended.

The histograms of quality begin with the first token that was measured: most engines measure none.
"""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import InferenceStopped, RuntimeStalled, TokenQuality
from smallmind_exporters.metrics import buckets, labels, readings
from smallmind_exporters.metrics.family import Family, MetricKind, Stability, one, rows

_DEVELOPMENT: Final = Stability.DEVELOPMENT

INSIGHT_FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="stalls_total",
        kind=MetricKind.COUNTER,
        help="Tokens that came notably late, by what held them up.",
        annotation="{token}",
        labels=(labels.MODEL, labels.STALL_CAUSE),
        readings=(rows(RuntimeStalled, lambda e: (((e.cause,), 1),)),),
        stability=_DEVELOPMENT,
    ),
    Family(
        name="stall_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time by which tokens came late, by what held them up.",
        unit="seconds",
        labels=(labels.MODEL, labels.STALL_CAUSE),
        readings=(rows(RuntimeStalled, readings.stall_rows),),
        otel="stall.time",
        stability=_DEVELOPMENT,
    ),
    Family(
        name="stall_gc_seconds_total",
        kind=MetricKind.COUNTER,
        help="Pauses of Python's garbage collector within late tokens, by generation.",
        unit="seconds",
        labels=(labels.MODEL, labels.GENERATION),
        readings=(rows(RuntimeStalled, readings.gc_rows),),
        otel="stall.gc.time",
        stability=_DEVELOPMENT,
    ),
    Family(
        name="stall_page_faults_total",
        kind=MetricKind.COUNTER,
        help="Page faults of the process within late tokens.",
        annotation="{fault}",
        labels=(labels.MODEL, labels.FAULT_KIND),
        readings=(rows(RuntimeStalled, readings.fault_rows),),
        stability=_DEVELOPMENT,
    ),
    Family(
        name="stall_context_switches_total",
        kind=MetricKind.COUNTER,
        help="Times that the engine's thread lost its core within late tokens.",
        annotation="{switch}",
        labels=(labels.MODEL,),
        readings=(one(RuntimeStalled, lambda e: e.involuntary_switches),),
        stability=_DEVELOPMENT,
    ),
    Family(
        name="token_choices_total",
        kind=MetricKind.COUNTER,
        help="Tokens that were measured, by whether the likeliest was chosen.",
        annotation="{token}",
        labels=(labels.MODEL, labels.CHOICE),
        readings=(rows(TokenQuality, readings.choice_rows),),
        stability=_DEVELOPMENT,
    ),
    Family(
        name="token_entropy_nats",
        kind=MetricKind.HISTOGRAM,
        help="Entropy of the model's distribution at each token; with quality_signals only.",
        annotation="{nat}",
        labels=(labels.MODEL,),
        buckets=buckets.NATS,
        combinations=(),
        readings=(one(TokenQuality, lambda e: e.entropy),),
        stability=_DEVELOPMENT,
    ),
    Family(
        name="token_surprise_nats",
        kind=MetricKind.HISTOGRAM,
        help="Negative log-probability of each chosen token; with quality_signals only.",
        annotation="{nat}",
        labels=(labels.MODEL,),
        buckets=buckets.NATS,
        combinations=(),
        readings=(one(TokenQuality, lambda e: abs(e.logprob)),),
        stability=_DEVELOPMENT,
    ),
    Family(
        name="token_margin_ratio",
        kind=MetricKind.HISTOGRAM,
        help="Probability of the likeliest token less that of the second, at each token.",
        annotation="1",
        labels=(labels.MODEL,),
        buckets=buckets.SHARES,
        combinations=(),
        readings=(one(TokenQuality, lambda e: e.margin),),
        stability=_DEVELOPMENT,
    ),
    Family(
        name="token_removed_mass_ratio",
        kind=MetricKind.HISTOGRAM,
        help="Probability of the tokens that truncation left out of the draw, at each token.",
        annotation="1",
        labels=(labels.MODEL,),
        buckets=buckets.SHARES,
        combinations=(),
        readings=(one(TokenQuality, lambda e: e.removed_mass),),
        stability=_DEVELOPMENT,
    ),
    Family(
        name="token_repetition_ratio",
        kind=MetricKind.HISTOGRAM,
        help="Share of the last 64 tokens that repeat others among them, at each token.",
        annotation="1",
        labels=(labels.MODEL,),
        buckets=buckets.SHARES,
        combinations=(),
        readings=(one(TokenQuality, lambda e: e.repetition),),
        stability=_DEVELOPMENT,
    ),
    Family(
        name="non_finite_total",
        kind=MetricKind.COUNTER,
        help="Requests ended by NaN or infinity, by where it first appeared.",
        annotation="{request}",
        labels=(labels.MODEL, labels.NON_FINITE_AT),
        readings=(rows(InferenceStopped, readings.non_finite_rows),),
        stability=_DEVELOPMENT,
    ),
)
