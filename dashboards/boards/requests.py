"""The boards of requests: overview, latency, tokens and throughput."""

from __future__ import annotations

from typing import Final

from boards.panels import Board, Panel, PanelKind, Query, Row
from boards.promql import increase, mean, quantile, rate, ratio, selector, total
from boards.retrieval import RETRIEVAL_ROW

_SHARES: Final = (0.5, 0.95, 0.99)


def _quantiles(name: str, *, exemplars: bool = False) -> tuple[Query, ...]:
    return tuple(
        Query(quantile(share, name), f"p{share * 100:g} {{{{model}}}}", exemplars)
        for share in _SHARES
    )


def _tokens_each_second(by: tuple[str, ...]) -> str:
    """As they are generated; with ``detail="request"`` there is only the count at the end."""
    at_the_end = rate("request_tokens", by, 'type="output"', suffix="_sum")
    return f"{rate('generated_tokens_total', by)} > 0\nor {at_the_end}"


_FAILED: Final = 'status=~"failed|rejected"'

OVERVIEW: Final = Board(
    uid="smallmind-overview",
    title="smallmind / Overview",
    about="Is it up, is it fast, does anything go wrong.",
    rows=(
        Row(
            "Now",
            (
                Panel(
                    title="Requests each second",
                    asks="How much is asked for?",
                    kind=PanelKind.NUMBER,
                    unit="reqps",
                    width=4,
                    height=4,
                    queries=(Query(rate("requests_total")),),
                ),
                Panel(
                    title="Tokens each second",
                    asks="How many tokens are generated, over all requests?",
                    kind=PanelKind.NUMBER,
                    width=4,
                    height=4,
                    queries=(Query(_tokens_each_second(())),),
                ),
                Panel(
                    title="First token, p95",
                    asks="How long do all but the slowest 5 % wait for their first token?",
                    kind=PanelKind.NUMBER,
                    unit="s",
                    width=4,
                    height=4,
                    queries=(Query(quantile(0.95, "time_to_first_token_seconds", ())),),
                ),
                Panel(
                    title="Between tokens, p95",
                    asks="How long does the engine need for a token, all but the slowest 5 %?",
                    kind=PanelKind.NUMBER,
                    unit="s",
                    width=4,
                    height=4,
                    queries=(Query(quantile(0.95, "inter_token_seconds", ())),),
                ),
                Panel(
                    title="Failed or turned away",
                    asks="Which share of requests got no answer?",
                    kind=PanelKind.NUMBER,
                    unit="percentunit",
                    width=4,
                    height=4,
                    queries=(
                        Query(
                            ratio(
                                rate("requests_total", where=_FAILED),
                                rate("requests_total"),
                            )
                        ),
                    ),
                ),
                Panel(
                    title="Processes",
                    asks="Are all worker processes there?",
                    kind=PanelKind.NUMBER,
                    width=4,
                    height=4,
                    queries=(Query(total("telemetry_processes")),),
                ),
            ),
        ),
        Row(
            "Requests",
            (
                Panel(
                    title="Requests by outcome",
                    asks="How do requests end?",
                    kind=PanelKind.STACKED,
                    unit="reqps",
                    queries=(
                        Query(
                            rate("requests_total", ("status", "reason")) + " > 0",
                            "{{status}}: {{reason}}",
                        ),
                    ),
                ),
                Panel(
                    title="Running and waiting",
                    asks="How many requests run, and how many wait?",
                    queries=(
                        Query(total("requests_in_flight", ("model",)), "running {{model}}"),
                        Query(total("queue_depth", ("model",)), "waiting {{model}}"),
                    ),
                ),
                Panel(
                    title="Where the time of requests goes",
                    asks="Which phase takes the time? The shares add up to one.",
                    kind=PanelKind.STACKED,
                    unit="percentunit",
                    top=1.0,
                    queries=(
                        Query(
                            rate("request_phase_seconds_total", ("phase",))
                            + "\n  / ignoring (phase) group_left () ("
                            + rate("request_phase_seconds_total")
                            + " > 0)",
                            "{{phase}}",
                        ),
                    ),
                ),
                Panel(
                    title="Errors by class",
                    asks="Which errors end requests?",
                    unit="reqps",
                    only_after="a request failed or was turned away",
                    queries=(
                        Query(rate("request_errors_total", ("error_type",)), "{{error_type}}"),
                    ),
                ),
                Panel(
                    title="Why requests did not complete",
                    asks="Why do requests end without completing, in the shown time?",
                    kind=PanelKind.TABLE,
                    only_after="a request was cancelled, turned away or failed",
                    queries=(
                        Query(
                            increase(
                                "requests_total",
                                ("model", "status", "reason"),
                                'status!="completed"',
                            )
                            + " > 0"
                        ),
                    ),
                ),
                Panel(
                    title="What works less well than asked for",
                    asks="What was degraded, in the shown time?",
                    kind=PanelKind.TABLE,
                    only_after="something was degraded",
                    queries=(Query(increase("degraded_total", ("reason",)) + " > 0"),),
                ),
            ),
        ),
        Row(
            "Models",
            (
                Panel(
                    title="Loaded models",
                    asks="Which models are loaded, from what, with which kernels?",
                    kind=PanelKind.TABLE,
                    width=12,
                    height=6,
                    queries=(Query(selector("model_info")),),
                ),
                Panel(
                    title="Time that loading took",
                    asks="Which step of loading a model is slow?",
                    kind=PanelKind.STACKED,
                    unit="s",
                    width=12,
                    height=6,
                    queries=(Query(selector("model_load_seconds"), "{{model}}: {{phase}}"),),
                ),
            ),
        ),
    ),
)

LATENCY: Final = Board(
    uid="smallmind-latency",
    title="smallmind / Latency",
    about="How long requests take, and which part of them does. Exemplars lead to traces.",
    rows=(
        Row(
            "What callers see",
            (
                Panel(
                    title="Time to first token",
                    asks="How long until the first token, of requests that completed?",
                    unit="s",
                    width=12,
                    queries=_quantiles("time_to_first_token_seconds", exemplars=True),
                ),
                Panel(
                    title="Time of requests",
                    asks="How long from submission to end?",
                    unit="s",
                    width=12,
                    queries=_quantiles("request_duration_seconds", exemplars=True),
                ),
                Panel(
                    title="Time between tokens",
                    asks="How long does the engine work on a token?",
                    unit="s",
                    queries=_quantiles("inter_token_seconds"),
                ),
                Panel(
                    title="Mean time of a token",
                    asks="How long is a token, over whole requests?",
                    unit="s",
                    queries=_quantiles("time_per_output_token_seconds"),
                ),
                Panel(
                    title="Waits for the reader",
                    asks="Is the model slow, or the reader of the stream?",
                    unit="s",
                    only_after="a stream was read",
                    queries=_quantiles("consumer_wait_seconds"),
                ),
            ),
        ),
        Row(
            "What it consists of",
            (
                Panel(
                    title="In the queue",
                    asks="How long do requests wait before they run?",
                    unit="s",
                    queries=_quantiles("queue_seconds"),
                ),
                Panel(
                    title="Prefill",
                    asks="How long does the prompt take?",
                    unit="s",
                    queries=_quantiles("prefill_seconds"),
                ),
                Panel(
                    title="Decode",
                    asks="How long does generating take, over whole requests?",
                    unit="s",
                    queries=_quantiles("decode_seconds"),
                ),
                Panel(
                    title="Seconds by phase",
                    asks="Which phase takes how much of each second?",
                    kind=PanelKind.STACKED,
                    unit="s",
                    width=12,
                    queries=(Query(rate("request_phase_seconds_total", ("phase",)), "{{phase}}"),),
                ),
                Panel(
                    title="Not accounted for",
                    asks="Which share of the time of requests is in no phase?",
                    unit="percentunit",
                    width=12,
                    queries=(
                        Query(
                            ratio(
                                rate("request_phase_seconds_total", where='phase="unattributed"'),
                                rate("request_phase_seconds_total"),
                            ),
                            "unattributed",
                        ),
                    ),
                ),
            ),
        ),
        RETRIEVAL_ROW,
    ),
)

TOKENS: Final = Board(
    uid="smallmind-tokens",
    title="smallmind / Tokens and throughput",
    about="How many tokens come and go, and how fast.",
    rows=(
        Row(
            "Throughput",
            (
                Panel(
                    title="Generated tokens each second",
                    asks="How many tokens a second, over all requests of a model?",
                    queries=(Query(_tokens_each_second(("model",)), "{{model}}"),),
                ),
                Panel(
                    title="Prompt tokens each second",
                    asks="How many prompt tokens are computed, and how many found cached?",
                    kind=PanelKind.STACKED,
                    queries=(
                        Query(
                            rate("prompt_tokens_total", ("model", "source")), "{{model}} {{source}}"
                        ),
                    ),
                ),
                Panel(
                    title="Prefill speed",
                    asks="How many prompt tokens are computed in a second of prefill?",
                    queries=(
                        Query(
                            ratio(
                                rate("prompt_tokens_total", ("model",), 'source="computed"'),
                                rate("prefill_seconds", ("model",), suffix="_sum"),
                            ),
                            "{{model}}",
                        ),
                    ),
                ),
                Panel(
                    title="Decode speed of a request",
                    asks="How many tokens a second does one request get from the engine?",
                    queries=(
                        Query(
                            # With detail="request" there is only the mean of whole requests.
                            f"1 / ({mean('inter_token_seconds')}\n"
                            f"or {mean('time_per_output_token_seconds')})",
                            "{{model}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Sizes",
            (
                Panel(
                    title="Prompt length",
                    asks="How long are prompts, in tokens?",
                    queries=tuple(
                        Query(
                            quantile(share, "request_tokens", where='type="input"'),
                            f"p{share * 100:g} {{{{model}}}}",
                        )
                        for share in _SHARES
                    ),
                ),
                Panel(
                    title="Completion length",
                    asks="How long are completions, in tokens?",
                    queries=tuple(
                        Query(
                            quantile(share, "request_tokens", where='type="output"'),
                            f"p{share * 100:g} {{{{model}}}}",
                        )
                        for share in _SHARES
                    ),
                ),
                Panel(
                    title="Requests for nothing",
                    asks="How many requests that ran were cancelled or failed?",
                    queries=(
                        Query(
                            rate("requests_total", ("status",), 'status=~"cancelled|failed"'),
                            "requests {{status}}",
                        ),
                    ),
                    unit="reqps",
                ),
            ),
        ),
    ),
)
