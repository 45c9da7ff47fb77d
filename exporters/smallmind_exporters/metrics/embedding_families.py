"""The metrics of embeddings."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import EmbeddingEnded
from smallmind_exporters.metrics import labels, readings
from smallmind_exporters.metrics.family import Family, MetricKind, one, rows

EMBEDDING_FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="embedding_calls_total",
        kind=MetricKind.COUNTER,
        help="Calls for vectors of texts that ended, in whatever way.",
        annotation="{request}",
        labels=(labels.MODEL, labels.STATUS),
        readings=(rows(EmbeddingEnded, lambda e: (((e.status,), 1),)),),
    ),
    Family(
        name="embedding_texts_total",
        kind=MetricKind.COUNTER,
        help="Texts of which vectors were made.",
        annotation="{text}",
        labels=(labels.MODEL,),
        readings=(one(EmbeddingEnded, readings.embedded("texts")),),
    ),
    Family(
        name="embedding_tokens_total",
        kind=MetricKind.COUNTER,
        help="Tokens of the texts of which vectors were made.",
        unit="tokens",
        labels=(labels.MODEL,),
        readings=(one(EmbeddingEnded, readings.embedded("tokens")),),
    ),
    Family(
        name="embedding_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time from the submission of texts to their vectors.",
        unit="seconds",
        labels=(labels.MODEL,),
        readings=(one(EmbeddingEnded, readings.embedded("duration_s")),),
    ),
)
