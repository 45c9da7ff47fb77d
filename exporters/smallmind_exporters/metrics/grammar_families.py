"""The metrics of structured output; each begins with the first answer that is held to a grammar."""

from __future__ import annotations

from typing import Final

from smallmind_engine.telemetry import GrammarApplied
from smallmind_exporters.metrics import labels
from smallmind_exporters.metrics.family import Family, MetricKind, one, rows

GRAMMAR_FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="structured_answers_total",
        kind=MetricKind.COUNTER,
        help="Answers that were held to a grammar, and whether they came to its end.",
        annotation="{request}",
        labels=(labels.MODEL, labels.RESPONSE_FORMAT, labels.WHOLE),
        readings=(
            rows(
                GrammarApplied,
                lambda e: (((e.format, "complete" if e.complete else "incomplete"), 1),),
            ),
        ),
    ),
    Family(
        name="grammar_lookups_total",
        kind=MetricKind.COUNTER,
        help="Grammars that requests asked for, by whether they had been compiled before.",
        annotation="{grammar}",
        labels=(labels.MODEL, labels.GRAMMAR_RESULT),
        readings=(rows(GrammarApplied, lambda e: ((("hit" if e.cached else "miss",), 1),)),),
    ),
    Family(
        name="grammar_compile_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time until grammars were ready, in the threads of callers.",
        unit="seconds",
        labels=(labels.MODEL,),
        readings=(one(GrammarApplied, lambda e: e.compile_s),),
        otel="grammar.compile.time",
    ),
    Family(
        name="grammar_masks_total",
        kind=MetricKind.COUNTER,
        help="How often grammars were asked which tokens may follow.",
        annotation="{mask}",
        labels=(labels.MODEL,),
        readings=(one(GrammarApplied, lambda e: e.masks),),
    ),
    Family(
        name="grammar_mask_seconds_total",
        kind=MetricKind.COUNTER,
        help="Time in which grammars told which tokens may follow.",
        unit="seconds",
        labels=(labels.MODEL,),
        readings=(one(GrammarApplied, lambda e: e.mask_s),),
        otel="grammar.mask.time",
    ),
    Family(
        name="grammar_allowed_tokens_total",
        kind=MetricKind.COUNTER,
        help="Tokens that grammars allowed, over all masks.",
        unit="tokens",
        labels=(labels.MODEL,),
        readings=(one(GrammarApplied, lambda e: e.allowed_tokens),),
    ),
)
