"""The panel: live figures as ``rich`` draws them. Imported when something is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from smallmind_engine.telemetry.live import EndedRequest, LiveFigures, Quantiles, RunningRequest

_STATUS_STYLES: Final = {
    "completed": "green",
    "cancelled": "yellow",
    "rejected": "magenta",
    "failed": "bold red",
}
_PHASE_STYLES: Final = {"queue": "yellow", "prepare": "dim", "prefill": "cyan", "decode": "green"}
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_BAR_COLUMNS: Final = 16
_LONGEST_ID: Final = 18
_SHOWN_REQUESTS: Final = 6
_LONGEST: Final = 60


def panel(figures: LiveFigures, title: str) -> RenderableType:
    """Everything in one frame."""
    beside = Table.grid(padding=(0, 3))
    beside.add_row(_requests(figures), _latencies(figures), _memory(figures))
    parts: list[RenderableType] = [
        beside,
        Text(),
        _speed(figures),
    ]
    if figures.requests:
        parts += [Text(), _running(figures.requests)]
    if figures.recent:
        parts += [Text(), _recent(figures.recent)]
    if figures.troubles or figures.lost_events:
        parts += [Text(), _troubles(figures)]
    heading = Text.assemble((_plain(title), "bold"), "  ")
    heading.append(_plain("  ".join(figures.models) or "no model yet"), "cyan")
    return Panel(Group(*parts), title=heading, title_align="left", box=box.ROUNDED, padding=(1, 2))


def _facts(title: str, rows: Iterable[tuple[str, RenderableType]]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.title = Text(title, "bold")
    table.title_justify = "left"
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(_plain(name), value)
    return table


def _requests(figures: LiveFigures) -> Table:
    rows: list[tuple[str, RenderableType]] = [
        ("running", Text(str(figures.running), "bold green" if figures.running else "dim")),
        ("waiting", Text(str(figures.waiting), "bold yellow" if figures.waiting else "dim")),
    ]
    for status, count in figures.ended:
        rows.append(
            (status, Text(f"{count:,}", _STATUS_STYLES.get(status, "") if count else "dim"))
        )
    return _facts("Requests", rows)


def _latencies(figures: LiveFigures) -> Table:
    table = _facts("Latency", ())
    table.add_column(justify="right")
    table.add_row("", Text("p50", "dim"), Text("p95", "dim"))
    rows = (
        ("first token", figures.first_token),
        ("between", figures.inter_token),
        ("request", figures.whole),
    )
    for name, quantiles in rows:
        table.add_row(name, *_pair(quantiles))
    return table


def _pair(quantiles: Quantiles) -> tuple[Text, Text]:
    return Text(_seconds(quantiles.p50_s)), Text(_seconds(quantiles.p95_s))


def _memory(figures: LiveFigures) -> Table:
    rows: list[tuple[str, RenderableType]] = []
    used, capacity = figures.kv_used_tokens, figures.kv_capacity_tokens
    if used is not None:
        whole = f"/{capacity:,}" if capacity else ""
        rows.append(("KV tokens", Text(f"{used:,}{whole}")))
        if capacity:
            bar = ProgressBar(total=capacity, completed=min(used, capacity), width=_BAR_COLUMNS)
            rows.append(("", bar))
    if figures.kv_used_bytes is not None:
        rows.append(("KV bytes", Text(_bytes(figures.kv_used_bytes))))
    rows += [(f"most {name}", Text(_bytes(size))) for name, size in figures.memory]
    return _facts("Memory", rows or [("", Text("-", "dim"))])


def _speed(figures: LiveFigures) -> Text:
    rate = figures.tokens_per_second
    text = Text.assemble(
        ("Speed  ", "bold"),
        (f"{rate:,.1f} tok/s" if rate is not None else "-", "bold cyan"),
        ("  over 10 s   ", "dim"),
    )
    most = max(figures.history, default=0.0)
    if most:
        steps = len(_BLOCKS) - 1
        text.append("".join(_BLOCKS[round(n / most * steps)] for n in figures.history), "cyan")
        text.append(f"  most {most:,.0f}", "dim")
    text.append(
        f"\n       {figures.generated_tokens:,} tokens generated,"
        f" {figures.prompt_tokens:,} of prompts",
        "dim",
    )
    return text


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for title, right in columns:
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    return table


def _running(requests: tuple[RunningRequest, ...]) -> Table:
    table = _table(("Running", False), ("phase", False), ("tokens", True), ("age", True))
    for each in requests[:_SHOWN_REQUESTS]:
        table.add_row(
            Text(_plain(each.request_id, _LONGEST_ID)),
            Text(each.phase, _PHASE_STYLES.get(each.phase, "")),
            str(each.tokens),
            _seconds(each.age_s),
        )
    left_out = len(requests) - _SHOWN_REQUESTS
    if left_out > 0:
        table.add_row(Text(f"and {left_out} more", "dim"))
    return table


def _recent(requests: tuple[EndedRequest, ...]) -> Table:
    table = _table(
        ("Last ended", False), ("reason", False), ("prompt", True), ("tokens", True),
        ("first", True), ("whole", True), ("tok/s", True),
    )  # fmt: skip
    for each in requests:
        table.add_row(
            Text(_plain(each.request_id, _LONGEST_ID)),
            Text(_plain(each.reason), _STATUS_STYLES.get(each.status, "")),
            str(each.prompt_tokens),
            str(each.completion_tokens),
            _seconds(each.time_to_first_token_s),
            _seconds(each.duration_s),
            "-" if each.rate is None else f"{each.rate:,.1f}",
        )
    return table


def _troubles(figures: LiveFigures) -> Table:
    table = _table(("Troubles", False), ("", False))
    if figures.lost_events:
        table.add_row("", Text(f"exporters lost {figures.lost_events:,} events", "bold red"))
    for each in figures.troubles:
        table.add_row(Text(_time(each.wall_ns), "dim"), Text(_plain(each.text), "yellow"))
    return table


def _plain(text: str, longest: int = _LONGEST) -> str:
    """At most so many characters of a text, those that a terminal would act on escaped."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text[:longest]
    )
    return shown + "…" * (len(text) > longest)


def _time(wall_ns: int) -> str:
    try:
        return datetime.fromtimestamp(wall_ns / 1e9, UTC).strftime("%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # a clock gone wild, or a log made by hand
        return "?"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= 1.0:
        return f"{seconds:,.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"


def _bytes(size: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size} B"
