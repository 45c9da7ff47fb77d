"""Make the pages that are tables of the code: reason codes, events, metrics, operating questions.

Run ``python docs/generate.py`` after a change; ``--check`` writes nothing and exits with 1 when a
page is out of date.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from smallmind_engine import telemetry
from smallmind_engine.telemetry import (
    REASONS,
    DegradeReason,
    Event,
    StopReason,
)

REFERENCE: Final = Path(__file__).parent / "reference"
DASHBOARDS: Final = str(Path(__file__).parents[1] / "dashboards")
NOTE: Final = "<!-- Made by docs/generate.py: change the code, then run it again. -->"


def reason_codes() -> str:
    """The page of all reason codes, in the order of their table."""
    rows = [
        "| code | means | what to do | used as |",
        "|---|---|---|---|",
    ]
    stops, degrades = set(map(str, StopReason)), set(map(str, DegradeReason))
    for reason in REASONS:
        code = reason.code.value
        uses = [
            name for name, codes in (("stop", stops), ("degrade", degrades)) if code in codes
        ] or ["code"]
        rows.append(f"| `{code}` | {reason.meaning} | {reason.remedy} | {', '.join(uses)} |")
    return _page(
        "Reason codes",
        "Every code that an event, an error, a result or a metric can carry. Each is a member of "
        "`ReasonCode`. **stop**: also a `StopReason`, why a request ended; every result has one. "
        "**degrade**: also a `DegradeReason`, why something works less well than it was asked to.",
        "\n".join(rows),
    )


def event_types() -> str:
    """The page of all event types, in the order of their kinds' bits."""
    common = ", ".join(f"`{name}`" for name in Event._fields)
    return _page(
        "Events",
        f"What the engine publishes. Every event begins with {common}. Durations are seconds, "
        "sizes are bytes. No event carries text of a prompt or completion.",
        *(_event_section(event_type) for event_type in all_event_types()),
    )


def all_event_types() -> list[type[Event]]:
    """The event types that are published, by kind."""
    types = (value for value in vars(telemetry).values() if inspect.isclass(value))
    published = [t for t in types if issubclass(t, Event) and t is not Event]
    return sorted(published, key=lambda event_type: event_type.kind)


def _event_section(event_type: type[Event]) -> str:
    summary, notes = _docstring(event_type)
    hints = inspect.get_annotations(event_type)
    defaults = event_type._field_defaults
    rows = [f"| field | type | default |{' notes |' if notes else ''}"]
    rows.append(f"|---|---|---|{'---|' if notes else ''}")
    for name, hint in hints.items():
        if name not in event_type._fields:
            continue
        default = f"`{defaults[name]!r}`" if name in defaults else ""
        note = f" {notes.get(name, '')} |" if notes else ""
        rows.append(f"| `{name}` | `{hint}` | {default} |{note}".replace(" | None", " \\| None"))
    head = f"## {event_type.__name__}\n\nKind `{event_type.kind.name}`. {summary}"
    return head + "\n\n" + "\n".join(rows)


def _docstring(event_type: type[Event]) -> tuple[str, dict[str, str]]:
    """The text of a docstring, and its notes on attributes by name."""
    text, _, attributes = inspect.getdoc(event_type).partition("\nAttributes:\n")
    notes: dict[str, str] = {}
    name = ""
    for line in attributes.splitlines():
        if line.startswith("    ") and not line.startswith("     "):
            name, _, note = line.strip().partition(": ")
            notes[name] = note
        elif name:
            notes[name] += " " + line.strip()
    return " ".join(text.split()).replace("``", "`"), {
        name: note.strip().replace("``", "`").replace("|", "\\|") for name, note in notes.items()
    }


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", NOTE, *parts)) + "\n"


def metrics() -> str:
    """The page of all metrics, from the exporters' table of families."""
    from pages.metrics_page import render_metrics_page

    return render_metrics_page()


def traces() -> str:
    """The page of spans, from the tables of the OTLP exporter."""
    from pages.traces_page import render_traces_page

    return render_traces_page()


def log_lines() -> str:
    """The page of log lines, from the table of the structlog exporter."""
    from pages.traces_page import render_log_lines_page

    return render_log_lines_page()


def cli() -> str:
    """The page of the command line, from its own help."""
    from pages.cli_page import render_cli_page

    return render_cli_page()


def operate() -> str:
    """The page of operating questions, from the tables of dashboards and alerts."""
    if DASHBOARDS not in sys.path:
        sys.path.append(DASHBOARDS)
    from pages.operate_page import render_operate_page

    return render_operate_page()


PAGES: Final[dict[str, Callable[[], str]]] = {
    "reason-codes.md": reason_codes,
    "events.md": event_types,
    "metrics.md": metrics,
    "traces.md": traces,
    "log-lines.md": log_lines,
    "cli.md": cli,
    "../operate.md": operate,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; answers with the exit code."""
    stale = 0
    REFERENCE.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        path, text = REFERENCE / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in arguments:
            sys.stderr.write(f"{path} is out of date: run python docs/generate.py\n")
            stale = 1
        else:
            path.write_text(text, encoding="utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
