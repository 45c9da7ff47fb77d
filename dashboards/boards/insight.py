"""The board that explains: late tokens, how sure the model is, what telemetry itself takes."""

from __future__ import annotations

from typing import Final

from boards.panels import Board, Panel, PanelKind, Query, Row
from boards.promql import mean, quantile, rate, ratio

_GRAMMARS: Final = "requests ask for a response_format"
_QUALITY: Final = "engines are loaded with quality_signals=True"


def _signal(title: str, asks: str, name: str) -> Panel:
    return Panel(
        title=title,
        asks=asks,
        only_after=_QUALITY,
        queries=(
            Query(mean(name), "mean {{model}}"),
            Query(quantile(0.95, name), "p95 {{model}}"),
        ),
    )


INSIGHT: Final = Board(
    uid="smallmind-insight",
    title="smallmind / Insight",
    about="Why tokens are late, how sure the model is, and what telemetry itself takes.",
    rows=(
        Row(
            "Late tokens",
            (
                Panel(
                    title="Late by cause",
                    asks="What makes tokens late: Python, the disk, or other processes?",
                    kind=PanelKind.STACKED,
                    unit="s",
                    queries=(Query(rate("stall_seconds_total", ("cause",)), "{{cause}}"),),
                ),
                Panel(
                    title="Late tokens",
                    asks="How many tokens are late?",
                    unit="ops",
                    queries=(Query(rate("stalls_total", ("model",)), "{{model}}"),),
                ),
                Panel(
                    title="Garbage collector",
                    asks="Which generation of Python's collector holds tokens up?",
                    kind=PanelKind.STACKED,
                    unit="s",
                    queries=(
                        Query(
                            rate("stall_gc_seconds_total", ("generation",)), "gen {{generation}}"
                        ),
                    ),
                ),
                Panel(
                    title="Page faults within late tokens",
                    asks="Are weights read from disk while tokens are made?",
                    unit="ops",
                    width=12,
                    queries=(Query(rate("stall_page_faults_total", ("kind",)), "{{kind}}"),),
                ),
                Panel(
                    title="Cores lost within late tokens",
                    asks="Do other processes take the cores?",
                    unit="ops",
                    width=12,
                    queries=(Query(rate("stall_context_switches_total", ("model",)), "{{model}}"),),
                ),
            ),
        ),
        Row(
            "How sure the model is",
            (
                _signal("Entropy", "Does the model know what comes next?", "token_entropy_nats"),
                _signal("Surprise", "Are unlikely tokens drawn?", "token_surprise_nats"),
                _signal("Margin", "How far ahead is the likeliest token?", "token_margin_ratio"),
                _signal(
                    "Mass left out", "How much does truncation cut off?", "token_removed_mass_ratio"
                ),
                _signal("Repetition", "Does the model repeat itself?", "token_repetition_ratio"),
                Panel(
                    title="Choices",
                    asks="How often is another token drawn than the likeliest?",
                    unit="ops",
                    kind=PanelKind.STACKED,
                    queries=(Query(rate("token_choices_total", ("choice",)), "{{choice}}"),),
                ),
                Panel(
                    title="No numbers",
                    asks="Where do NaN or infinity first appear in the model?",
                    unit="ops",
                    queries=(
                        Query(rate("non_finite_total", ("model", "at")), "{{model}}: {{at}}"),
                    ),
                ),
            ),
        ),
        Row(
            "Structured output",
            (
                Panel(
                    title="Answers held to a grammar",
                    asks="Do answers come to their end, or are they cut short?",
                    kind=PanelKind.STACKED,
                    unit="ops",
                    only_after=_GRAMMARS,
                    queries=(
                        Query(
                            rate("structured_answers_total", ("format", "outcome")),
                            "{{format}}: {{outcome}}",
                        ),
                    ),
                ),
                Panel(
                    title="Masks beside the model",
                    asks="How much time do grammars take for each second of decoding?",
                    unit="percentunit",
                    only_after=_GRAMMARS,
                    queries=(
                        Query(
                            ratio(
                                rate("request_phase_seconds_total", where='phase="mask"'),
                                rate("request_phase_seconds_total", where='phase="decode"'),
                            ),
                            "masks",
                        ),
                    ),
                ),
                Panel(
                    title="Grammars compiled",
                    asks="Are grammars compiled anew, and how long does that take?",
                    unit="s",
                    only_after=_GRAMMARS,
                    queries=(
                        Query(
                            ratio(
                                rate("grammar_compile_seconds_total", ("model",)),
                                rate("grammar_lookups_total", ("model",)),
                            ),
                            "{{model}}",
                        ),
                    ),
                ),
                Panel(
                    title="Time of a mask",
                    asks="How long does a grammar take to tell which tokens may follow?",
                    unit="s",
                    width=12,
                    only_after=_GRAMMARS,
                    queries=(
                        Query(
                            ratio(
                                rate("grammar_mask_seconds_total", ("model",)),
                                rate("grammar_masks_total", ("model",)),
                            ),
                            "{{model}}",
                        ),
                    ),
                ),
                Panel(
                    title="Tokens that may follow",
                    asks="How narrow are the grammars?",
                    width=12,
                    only_after=_GRAMMARS,
                    queries=(
                        Query(
                            ratio(
                                rate("grammar_allowed_tokens_total", ("model",)),
                                rate("grammar_masks_total", ("model",)),
                            ),
                            "{{model}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "What telemetry takes",
            (
                Panel(
                    title="Share of the time, by exporter",
                    asks="Which exporter holds up the engine, and by how much?",
                    unit="percentunit",
                    queries=(
                        Query(
                            rate("telemetry_overhead_seconds_total", ("exporter",)), "{{exporter}}"
                        ),
                    ),
                ),
                Panel(
                    title="Work behind queues",
                    asks="Which exporter keeps a core busy beside the engine?",
                    unit="percentunit",
                    queries=(
                        Query(
                            rate("telemetry_export_seconds_total", ("exporter",)), "{{exporter}}"
                        ),
                    ),
                ),
                Panel(
                    title="Events shed",
                    asks="Is detail left out, because telemetry exceeds its budget?",
                    unit="ops",
                    queries=(
                        Query(rate("telemetry_events_shed_total", ("exporter",)), "{{exporter}}"),
                    ),
                ),
            ),
        ),
    ),
)
