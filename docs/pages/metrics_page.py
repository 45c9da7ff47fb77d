"""Writes the reference page of the metrics from the table of families."""

from __future__ import annotations

from collections.abc import Iterable

from smallmind_exporters import conventions
from smallmind_exporters.metrics import (
    FAMILIES,
    PREFIX,
    Family,
    Label,
    Stability,
    otel_instrument,
    otel_name,
    otel_unit,
)

_SECTIONS = (
    ("Requests", ("request", "queue_depth", "rejected", "backpressure")),
    (
        "Time",
        (
            "request_duration",
            "request_phase",
            "queue_seconds",
            "time_",
            "inter_",
            "consumer_",
            "prefill_",
            "decode_",
        ),
    ),
    ("Tokens", ("prompt_", "generated_", "request_tokens")),
    ("Batches", ("batch_",)),
    ("Embeddings", ("embedding_",)),
    ("Structured output", ("structured_", "grammar_")),
    ("KV cache", ("kv_", "prefix_")),
    (
        "Models and memory",
        ("model_", "kernel_compilations", "kernel_preparation", "tokenizer_", "memory_"),
    ),
    ("Operations of the model", ("kernel_", "machine_")),
    ("Late tokens and quality", ("stall", "token_", "non_finite")),
    ("Retrieval", ("retrieval",)),
    ("The service and its telemetry", ("degraded", "log_", "telemetry_")),
)

_STABILITY = {Stability.DEVELOPMENT: "in development", Stability.DEPRECATED: "deprecated"}

_NOTES = {
    "Late tokens and quality": """\
[What only this runtime tells](../explanation/insight.md) explains them. Those of tokens need
`quality_signals=True`, see [Watch the quality of tokens](../how-to/quality-signals.md).
""",
    "Operations of the model": """\
Only engines with `detail="kernel"` tell of these; see
[Profile the kernels](../how-to/profile-kernels.md).

GB/s by operation, and as a share of what the machine can do:

```promql
sum by (op) (rate(smallmind_kernel_read_bytes_total[1m]))
  / sum by (op) (rate(smallmind_kernel_seconds_total[1m])) / 1e9
```

```promql
sum by (op) (rate(smallmind_kernel_read_bytes_total[1m]))
  / sum by (op) (rate(smallmind_kernel_seconds_total[1m]))
  / scalar(max(smallmind_machine_read_bytes_per_second))
```
""",
}

_INTRODUCTION = f"""\
# Metrics

<!-- Made by docs/generate.py: change the code, then run it again. -->

What the Prometheus exporter shows, all with the prefix `smallmind_`. The how-to
[Watch an engine with Prometheus](../how-to/prometheus.md) tells how to scrape it.

What holds for all of them:

* Times are in seconds of a monotonic clock, sizes in bytes. A request's time begins when it is
  submitted.
* Labels have few values; there is never an id in one. Where the values are known beforehand,
  the series exist at zero once the model is first seen, so that `rate()` misses no first
  increase. Where a label's set is open, what comes after its limit is counted as `_other`.
* A `reason` is one of the [reason codes](reason-codes.md); those listed below are there from the
  start, others appear when they occur.
* A scrape changes nothing: any number of servers may scrape at any interval.
* Several engines in one registry add up; gauges of a closed engine disappear, its counts stay.
* Readings that are negative, infinite or not a number are left out and counted in
  `smallmind_telemetry_invalid_values_total`.
* In OpenMetrics the histograms marked so carry exemplars with `trace_id` and `span_id` of the
  last sampled request in each bucket.
* Each tells what it is called in OpenTelemetry: the name of the GenAI semantic conventions where
  there is one (as of version {conventions.VERSION}), else one that begins with `smallmind.`.
* A metric in development may change in any version; all others change only after a version in
  which they are deprecated.
"""


def render_metrics_page() -> str:
    """The page, as Markdown.

    Raises:
        LookupError: a family belongs to no section.
    """
    sections: dict[str, list[Family]] = {title: [] for title, _ in _SECTIONS}
    for family in FAMILIES:
        sections[_section_of(family)].append(family)
    parts = [_INTRODUCTION]
    for title, families in sections.items():
        parts.append(f"\n## {title}\n")
        if title in _NOTES:
            parts.append("\n" + _NOTES[title])
        parts.extend(_entry(family) for family in families)
    parts.append("\n## Labels\n\n" + _labels(FAMILIES))
    return "".join(parts)


def _section_of(family: Family) -> str:
    # The longest beginning that fits, because names share beginnings.
    fitting = [
        (len(beginning), title)
        for title, beginnings in _SECTIONS
        for beginning in beginnings
        if family.name.startswith(beginning)
    ]
    if not fitting:
        raise LookupError(f"{family.name} belongs to no section of the page")
    return max(fitting)[1]


def _entry(family: Family) -> str:
    facts = [f"{family.kind}"]
    if family.unit:
        facts.append(family.unit)
    if family.labels:
        facts.append("labels " + ", ".join(f"`{label.name}`" for label in family.labels))
    facts.append(f"since {family.since}")
    if family.stability is not Stability.STABLE:
        facts.append(
            f"in {family.stability}" if family.stability == "development" else "deprecated"
        )
    lines = [f"\n### `{PREFIX}{family.name}`\n", f"{family.help}\n", f"* {'; '.join(facts)}"]
    source = _source(family)
    if source:
        lines.append(f"* from {source}")
    if family.buckets:
        lines.append("* buckets " + ", ".join(f"{bound:g}" for bound in family.buckets))
    instrument = str(otel_instrument(family)).replace("_", "-")
    lines.append(f"* in OpenTelemetry `{otel_name(family)}`, {instrument}, `{otel_unit(family)}`")
    if family.convention:
        lines.append(
            "* the OpenTelemetry GenAI conventions advise its buckets, as the first of these"
        )
    if family.exemplars:
        lines.append("* carries exemplars")
    return "\n".join(lines) + "\n"


def _source(family: Family) -> str:
    if family.stage is not None:
        return "the events of each request's life"
    if family.health is not None:
        return "the health of the event bus"
    if not family.readings:
        return "the exporter itself"
    return ", ".join(dict.fromkeys(f"`{reading.event.__name__}`" for reading in family.readings))


def _labels(families: Iterable[Family]) -> str:
    rows = ["| label | of | meaning | values |", "|---|---|---|---|"]
    users: dict[Label, list[str]] = {}
    for family in families:
        for label in family.labels:
            users.setdefault(label, []).append(family.name)
    for label, names in sorted(users.items(), key=lambda item: (item[0].name, item[1])):
        of = "most metrics" if len(names) > 4 else ", ".join(f"`{name}`" for name in names)
        rows.append(f"| `{label.name}` | {of} | {label.meaning} | {_values(label)} |")
    return "\n".join(rows) + "\n"


def _values(label: Label) -> str:
    known = ", ".join(f"`{value}`" for value in label.values)
    if label.limit is None:
        return known
    return f"{known}; at most {label.limit}" if known else f"at most {label.limit}"
