"""Writes the reference pages of traces and of log lines from the tables of their exporters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from smallmind_exporters import conventions
from smallmind_exporters.otlp.attributes import (
    OPERATION_SPANS,
    OTHER_ATTRIBUTES,
    REQUEST_ATTRIBUTES,
)
from smallmind_exporters.otlp.operation_attributes import MEANINGS
from smallmind_exporters.otlp.span_tables import (
    KERNEL_EVENT,
    KERNEL_FIELDS,
    PHASES,
    STEP_EVENTS,
    TOKEN_EVENT,
    TOKEN_FIELDS,
)
from smallmind_exporters.structured.lines import CANONICAL_EVENT, CANONICAL_KEYS, ID_KEYS

NOTE = "<!-- Made by docs/generate.py: change the code, then run it again. -->"

_SPANS = f"""\
The OTLP exporter makes these spans, all of kind `INTERNAL` because the model runs in the host's
process. Names of attributes are those of the OpenTelemetry GenAI conventions
({conventions.VERSION}) where they have one.
[OpenTelemetry](../how-to/opentelemetry.md) tells how to set it up.

| span | from | to |
|---|---|---|
| `{{operation}} {{model}}`, such as `chat smollm2` | submission of the request | its end |"""

_LOG_LINES = f"""\
What the structlog exporter writes: one line named `{CANONICAL_EVENT}` for each request, and one
for each notable event: what is loaded, turned away, degraded, evicted or measured, and each log
event. [structlog](../how-to/structlog.md) tells how to set it up.

## The canonical line of a request

The level is `error` for a request that failed, `warning` for one that was rejected, else `info`.
"""


def _meanings(rows: Mapping[str, str]) -> list[str]:
    return [f"| `{name}` | {meaning} |" for name, meaning in rows.items()]


def render_traces_page() -> str:
    """The page of spans, their attributes and their events."""
    phases = [
        f"| &nbsp;&nbsp;`{phase.name}` | `{phase.begin.name}` | `{phase.end.name}` |"
        for phase in PHASES
    ]
    others = [
        f"| `{how.label}` | begin of it | `{end.kind.name}` |"
        for end, how in OPERATION_SPANS.items()
    ]
    rows = [
        f"| `{row.name}` | {row.meaning} | {'yes' if row.at_start else ''} |"
        for row in REQUEST_ATTRIBUTES
    ]
    rows += [f"| `{name}` | {meaning} | |" for name, meaning in OTHER_ATTRIBUTES]
    details = {
        TOKEN_EVENT: (TOKEN_FIELDS, "`token`"),
        KERNEL_EVENT: (KERNEL_FIELDS, "`kernel`"),
    }
    events = [f"| `{name}` | {_fields(fields)} | |" for name, fields in STEP_EVENTS.values()]
    events += [
        f"| `{name}` | {_fields(fields)} | {level} |" for name, (fields, level) in details.items()
    ]
    return _page(
        "Traces",
        "\n".join((_SPANS, *phases, *others)),
        "## Attributes of a request",
        "\n".join(("| attribute | value | seen by samplers |", "|---|---|---|", *rows)),
        *(
            f"## Attributes of {title}\n\n"
            + "\n".join(("| attribute | value |", "|---|---|", *_meanings(MEANINGS[operation])))
            for operation, title in (
                (conventions.OPERATION_RETRIEVAL, "a retrieval"),
                (conventions.OPERATION_EMBEDDINGS, "embeddings"),
            )
        ),
        "## Events of spans",
        "A phase has the events of tokens and operations, the request and the load the others. "
        "Those with a level are only there in that detail, or in a request that was expanded.",
        "\n".join(("| event | attributes | level |", "|---|---|---|", *events)),
    )


def render_log_lines_page() -> str:
    """The page of the keys of log lines."""
    keys = [f"| `{key.name}` | {key.meaning} |" for key in CANONICAL_KEYS]
    phases = "| `phase_<phase>_s` | seconds on each account of the time ledger |"
    quality = "| `quality_<signal>` | means over the tokens, with `quality_signals` only |"
    ids = [f"| `{name}` | {meaning} |" for name, meaning in ID_KEYS]
    head = ("| key | value |", "|---|---|")
    return _page(
        "Log lines",
        _LOG_LINES.rstrip(),
        "\n".join((*head, *keys, phases, quality)),
        "## Keys of every line",
        "\n".join((*head, *ids)),
    )


def _fields(fields: Iterable[str]) -> str:
    return ", ".join(f"`smallmind.{field}`" for field in fields)


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", NOTE, *parts)) + "\n"
