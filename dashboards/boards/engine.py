"""The boards of the engine: cache and memory, queue, telemetry, kernels."""

from __future__ import annotations

from typing import Final

from boards.panels import Board, Panel, PanelKind, Query, Row
from boards.promql import mean, quantile, rate, ratio, selector, total

MEMORY: Final = Board(
    uid="smallmind-memory",
    title="smallmind / KV cache and memory",
    about="Is the cache big enough, does it pay, and where does the memory go.",
    rows=(
        Row(
            "KV cache",
            (
                Panel(
                    title="Cache in use",
                    asks="How full are the KV caches?",
                    unit="percentunit",
                    top=1.0,
                    queries=(
                        Query(
                            ratio(
                                total("kv_cache_used_tokens", ("model",)),
                                total("kv_cache_capacity_tokens", ("model",)),
                            ),
                            "{{model}}",
                        ),
                    ),
                ),
                Panel(
                    title="Tokens in the cache",
                    asks="How many tokens are kept, and how many fit?",
                    queries=(
                        Query(total("kv_cache_used_tokens", ("model",)), "used {{model}}"),
                        Query(total("kv_cache_capacity_tokens", ("model",)), "capacity {{model}}"),
                    ),
                ),
                Panel(
                    title="Bytes of the cache",
                    asks="How much memory do the KV caches use?",
                    unit="bytes",
                    queries=(Query(total("kv_cache_used_bytes", ("model",)), "{{model}}"),),
                ),
                Panel(
                    title="Prompt tokens found cached",
                    asks="Is the cache of prompts worth its memory?",
                    unit="percentunit",
                    top=1.0,
                    queries=(
                        Query(
                            ratio(
                                rate("prefix_cache_hit_tokens_total", ("model",)),
                                rate("prefix_cache_queried_tokens_total", ("model",)),
                            ),
                            "{{model}}",
                        ),
                    ),
                ),
                Panel(
                    title="Lookups",
                    asks="How often does a prompt find anything of itself cached?",
                    kind=PanelKind.STACKED,
                    unit="ops",
                    queries=(Query(rate("kv_cache_lookups_total", ("result",)), "{{result}}"),),
                ),
                Panel(
                    title="Evictions",
                    asks="Is the cache too small, so that idle ones are dropped?",
                    unit="ops",
                    queries=(Query(rate("kv_cache_evictions_total", ("reason",)), "{{reason}}"),),
                ),
            ),
        ),
        Row(
            "Memory",
            (
                Panel(
                    title="Memory held now",
                    asks="Where does the memory go?",
                    kind=PanelKind.STACKED,
                    unit="bytes",
                    width=8,
                    queries=(
                        Query(
                            total("memory_bytes", ("model", "category")),
                            "{{model}}: {{category}}",
                        ),
                    ),
                ),
                Panel(
                    title="Most memory held",
                    asks="What takes the memory?",
                    kind=PanelKind.STACKED,
                    unit="bytes",
                    width=8,
                    queries=(
                        Query(
                            total("memory_high_water_bytes", ("model", "category")),
                            "{{model}}: {{category}}",
                        ),
                    ),
                ),
                Panel(
                    title="The budget said no, or less",
                    asks="Does the memory budget hold requests back?",
                    width=8,
                    unit="ops",
                    only_after="the memory budget gave less or refused",
                    queries=(
                        Query(
                            rate("memory_budget_events_total", ("reason", "category")),
                            "{{reason}}: {{category}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)

SCHEDULER: Final = Board(
    uid="smallmind-scheduler",
    title="smallmind / Queue and scheduler",
    about="Who waits, who is turned away, and what is full.",
    rows=(
        Row(
            "Queue",
            (
                Panel(
                    title="Waiting",
                    asks="How many requests wait?",
                    queries=(Query(total("queue_depth", ("model",)), "{{model}}"),),
                ),
                Panel(
                    title="Running",
                    asks="How many requests run at once?",
                    queries=(Query(total("requests_in_flight", ("model",)), "{{model}}"),),
                ),
                Panel(
                    title="Wait in the queue",
                    asks="How long do requests wait before they run?",
                    unit="s",
                    queries=tuple(
                        Query(quantile(share, "queue_seconds"), f"p{share * 100:g} {{{{model}}}}")
                        for share in (0.5, 0.95)
                    ),
                ),
                Panel(
                    title="Share of the time spent waiting",
                    asks="Would more capacity help?",
                    unit="percentunit",
                    queries=(
                        Query(
                            ratio(
                                rate("request_phase_seconds_total", ("model",), 'phase="queue"'),
                                rate("request_phase_seconds_total", ("model",)),
                            ),
                            "{{model}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Batches",
            (
                Panel(
                    title="Requests in a step",
                    asks="How many requests share a step of the model?",
                    queries=(
                        Query(mean("batch_sequences"), "mean {{model}}"),
                        Query(quantile(0.95, "batch_sequences"), "p95 {{model}}"),
                    ),
                ),
                Panel(
                    title="Time of a step",
                    asks="How long is a step of the model?",
                    unit="s",
                    queries=tuple(
                        Query(
                            quantile(share, "batch_step_seconds"), f"p{share * 100:g} {{{{model}}}}"
                        )
                        for share in (0.5, 0.95)
                    ),
                ),
                Panel(
                    title="Tokens in steps",
                    asks="Do prompts crowd out what is generated?",
                    kind=PanelKind.STACKED,
                    queries=(Query(rate("batch_tokens_total", ("kind",)), "{{kind}}"),),
                ),
            ),
        ),
        Row(
            "Embeddings",
            (
                Panel(
                    title="Calls for vectors",
                    asks="Are texts embedded, and do the calls end well?",
                    unit="reqps",
                    kind=PanelKind.STACKED,
                    queries=(
                        Query(
                            rate("embedding_calls_total", ("model", "status")),
                            "{{model}}: {{status}}",
                        ),
                    ),
                ),
                Panel(
                    title="Texts and tokens embedded",
                    asks="How much is embedded?",
                    queries=(
                        Query(rate("embedding_texts_total", ("model",)), "texts {{model}}"),
                        Query(rate("embedding_tokens_total", ("model",)), "tokens {{model}}"),
                    ),
                ),
                Panel(
                    title="Time of a text",
                    asks="How long does a text take to become a vector?",
                    unit="s",
                    queries=(
                        Query(
                            ratio(
                                rate("embedding_seconds_total", ("model",)),
                                rate("embedding_texts_total", ("model",)),
                            ),
                            "{{model}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Backpressure",
            (
                Panel(
                    title="Turned away",
                    asks="Why are requests turned away?",
                    unit="reqps",
                    queries=(
                        Query(rate("rejected_total", ("model", "reason")), "{{model}}: {{reason}}"),
                    ),
                ),
                Panel(
                    title="Something was full",
                    asks="Which queue or buffer is full, and what is done about it?",
                    unit="ops",
                    queries=(
                        Query(
                            rate("backpressure_total", ("reason", "policy")),
                            "{{reason}}: {{policy}}",
                        ),
                    ),
                ),
                Panel(
                    title="Cancelled",
                    asks="Who gives up: callers, time limits, or full buffers?",
                    unit="reqps",
                    queries=(
                        Query(
                            rate("requests_total", ("reason",), 'status="cancelled"'), "{{reason}}"
                        ),
                    ),
                ),
            ),
        ),
    ),
)

TELEMETRY: Final = Board(
    uid="smallmind-telemetry",
    title="smallmind / Telemetry health",
    about="Can the other dashboards be trusted, and what do they cost.",
    rows=(
        Row(
            "Losses",
            (
                Panel(
                    title="Errors of exporters",
                    asks="Which exporter fails?",
                    unit="ops",
                    queries=(
                        Query(
                            rate("telemetry_exporter_errors_total", ("exporter",)), "{{exporter}}"
                        ),
                    ),
                ),
                Panel(
                    title="Events dropped",
                    asks="Which exporter loses data?",
                    unit="ops",
                    queries=(
                        Query(
                            rate("telemetry_events_dropped_total", ("exporter",)), "{{exporter}}"
                        ),
                    ),
                ),
                Panel(
                    title="Readings left out",
                    asks="Are there values that are not a number, infinite or negative?",
                    unit="ops",
                    queries=(Query(rate("telemetry_invalid_values_total"), "invalid"),),
                ),
            ),
        ),
        Row(
            "Cost",
            (
                Panel(
                    title="Share of the time of requests",
                    asks="What does telemetry cost?",
                    unit="percentunit",
                    queries=(
                        Query(
                            ratio(
                                rate("request_phase_seconds_total", where='phase="telemetry"'),
                                rate("request_phase_seconds_total"),
                            ),
                            "telemetry",
                        ),
                    ),
                ),
                Panel(
                    title="Events each second",
                    asks="How many events are added up?",
                    unit="ops",
                    queries=(Query(rate("telemetry_events_total", ("instance",)), "{{instance}}"),),
                ),
                Panel(
                    title="Processes shown",
                    asks="How many worker processes does each scraped instance show?",
                    queries=(Query(selector("telemetry_processes"), "{{instance}}"),),
                ),
            ),
        ),
        Row(
            "Logs",
            (
                Panel(
                    title="Log events",
                    asks="How much is logged, by severity?",
                    kind=PanelKind.STACKED,
                    unit="ops",
                    width=12,
                    queries=(Query(rate("log_events_total", ("level",)), "{{level}}"),),
                ),
                Panel(
                    title="Degradations",
                    asks="What began to work less well than asked for?",
                    unit="ops",
                    width=12,
                    queries=(Query(rate("degraded_total", ("reason",)) + " > 0", "{{reason}}"),),
                    only_after="something was degraded",
                ),
            ),
        ),
    ),
)

_KERNEL = 'engines are loaded with detail="kernel"'

KERNELS: Final = Board(
    uid="smallmind-kernels",
    title="smallmind / Kernels",
    about='What the operations of the model reach; for engines with detail="kernel".',
    rows=(
        Row(
            "Roofline",
            (
                Panel(
                    title="Time by operation",
                    asks="Which operation takes the time?",
                    kind=PanelKind.STACKED,
                    unit="s",
                    width=12,
                    only_after=_KERNEL,
                    queries=(Query(rate("kernel_seconds_total", ("op",)), "{{op}}"),),
                ),
                Panel(
                    title="Memory read, as a share of what the machine can",
                    asks="Is an operation bound by memory?",
                    unit="percentunit",
                    width=12,
                    only_after=_KERNEL,
                    queries=(
                        Query(
                            ratio(
                                rate("kernel_read_bytes_total", ("op",)),
                                rate("kernel_seconds_total", ("op",)),
                            )
                            + f"\n  / scalar(max({selector('machine_read_bytes_per_second')}))",
                            "{{op}}",
                        ),
                    ),
                ),
                Panel(
                    title="Bytes a second by operation",
                    asks="How fast does each operation read?",
                    unit="Bps",
                    width=12,
                    only_after=_KERNEL,
                    queries=(
                        Query(
                            ratio(
                                rate("kernel_read_bytes_total", ("op", "quantization")),
                                rate("kernel_seconds_total", ("op", "quantization")),
                            ),
                            "{{op}} {{quantization}}",
                        ),
                        Query(
                            f"max({selector('machine_read_bytes_per_second')})",
                            "what the machine can",
                        ),
                    ),
                ),
                Panel(
                    title="Operations a second by operation",
                    asks="How fast does each operation compute?",
                    unit="flops",
                    width=12,
                    only_after=_KERNEL,
                    queries=(
                        Query(
                            ratio(
                                rate("kernel_flops_total", ("op",)),
                                rate("kernel_seconds_total", ("op",)),
                            ),
                            "{{op}}",
                        ),
                        Query(
                            f"max({selector('machine_flops_per_second')})",
                            "float products of the machine",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Getting ready",
            (
                Panel(
                    title="Kernels made ready",
                    asks="Were kernels compiled, or found compiled?",
                    kind=PanelKind.TABLE,
                    width=12,
                    queries=(Query(total("kernel_compilations_total", ("model", "source"))),),
                ),
                Panel(
                    title="Time to make kernels ready",
                    asks="How long does compiling hold up loads?",
                    unit="s",
                    width=12,
                    queries=(
                        Query(total("kernel_preparation_seconds_total", ("model",)), "{{model}}"),
                    ),
                ),
            ),
        ),
    ),
)
