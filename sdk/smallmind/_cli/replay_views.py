"""How a replayed log, and requests that were run again, are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from smallmind._cli.blocks import Cell, Column, Grid, Styled, facts
from smallmind._cli.formatting import one_line, rate_text, seconds_text, share_text, shortened
from smallmind.replay import EventLog, Outcome, ReplayReport, Verification
from smallmind_engine.telemetry import Distribution, MetricsSnapshot

_OUTCOME_STYLES = {
    Outcome.SAME: "green",
    Outcome.DIVERGED: "bold red",
    Outcome.NOT_COMPARABLE: "yellow",
}
_LONGEST_ID = 40


def log_grid(log: EventLog, report: ReplayReport) -> Grid:
    """What the log is, and whether anything is missing from it."""
    header = log.header
    rows: list[tuple[str, Cell]] = [
        ("written by", f"{header.software}, Python {header.python}, process {header.pid}"),
        ("files", str(len(log.paths))),
        ("events", f"{report.events:,}"),
    ]
    if report.counted_before:
        rows.append(("before the first file", f"{report.counted_before:,} events (snapshot)"))
    rows.append(("complete", Styled("yes", "green") if report.complete else _missing(report)))
    if report.torn:
        rows.append(("end", Styled("in the middle of a line: the process died", "yellow")))
    return facts("Log", tuple(rows))


def _missing(report: ReplayReport) -> Styled:
    gone = report.counted_before is not None and not report.from_snapshot
    parts = [
        "its beginning is gone" if gone else "",
        f"{report.lost:,} could not be written" if report.lost else "",
        f"{report.dropped:,} were dropped by the queue" if report.dropped else "",
        f"{report.damaged:,} lines are damaged" if report.damaged else "",
        f"{report.unknown:,} are of a newer version" if report.unknown else "",
    ]
    return Styled("no: " + ", ".join(part for part in parts if part), "bold yellow")


def metrics_grid(metrics: MetricsSnapshot) -> Grid:
    """The metrics at the end of the log."""
    ended = tuple((status.value, str(n)) for status, n in metrics.inferences.items() if n)
    reasons = tuple((reason.value, str(n)) for reason, n in metrics.stop_reasons.items() if n)
    return facts(
        "Metrics at its end",
        (("requests started", str(metrics.inferences_started)), *ended),
        reasons,
        (
            ("prompt tokens", f"{metrics.prompt_tokens:,}"),
            ("completion tokens", f"{metrics.completion_tokens:,}"),
            ("decode speed", rate_text(metrics.average_tokens_per_second)),
            ("session cache hits", share_text(metrics.kv_cache_hit_rate)),
        ),
    )


def latency_grid(metrics: MetricsSnapshot) -> Grid:
    """The distributions of the times."""
    rows = (
        ("time to first token", metrics.time_to_first_token),
        ("between tokens", metrics.inter_token_interval),
        ("whole request", metrics.request_duration),
    )
    return Grid(
        title="Latency",
        columns=(
            Column(style="dim"),
            *(Column(t, right=True) for t in ("count", "mean", "p50", "p95", "p99", "max")),
        ),
        sections=(tuple((name, *_percentiles(d)) for name, d in rows),),
    )


def _percentiles(times: Distribution) -> tuple[str, ...]:
    figures = (times.mean_s, times.p50_s, times.p95_s, times.p99_s, times.max_s)
    return (f"{times.count:,}", *(seconds_text(figure) for figure in figures))


def verification_grid(found: Sequence[Verification]) -> Grid:
    """A row for each request that was run again."""
    return Grid(
        title="Run again",
        columns=(
            Column("request"),
            Column("outcome"),
            Column("tokens the same", right=True),
            Column("detail", fold=True),
        ),
        sections=(
            tuple(
                (
                    shortened(one_line(each.request_id), _LONGEST_ID),
                    Styled(each.outcome.value.replace("_", " "), _OUTCOME_STYLES[each.outcome]),
                    str(each.tokens),
                    one_line(_detail(each)),
                )
                for each in found
            ),
        ),
    )


def _detail(found: Verification) -> str:
    if found.outcome is Outcome.NOT_COMPARABLE:
        return found.why
    parts = []
    if found.step is not None:
        parts.append(f"step {found.step}: {_told(found, recorded=True)} in the log,")
        parts.append(f"{_told(found, recorded=False)} now")
    if found.margin is not None:
        parts.append(f"(the best token led by {found.margin:.2g})")
    if found.step is not None and found.changed:
        differences = (f"{name} {then or '-'} → {now or '-'}" for name, then, now in found.changed)
        parts.append("; changed: " + ", ".join(differences))
    return " ".join(parts)


def _told(found: Verification, *, recorded: bool) -> str:
    token = found.recorded if recorded else found.repeated
    text = found.recorded_text if recorded else found.repeated_text
    reason = found.recorded_reason if recorded else found.repeated_reason
    if token is None:
        return f"the end ({reason.value if reason else 'unknown'})"
    return f"token {token} {text!r}"


def verification_line(found: Sequence[Verification]) -> Styled:
    """The verdict in one line."""
    counts = Counter(each.outcome for each in found)
    told = ", ".join(
        f"{counts[outcome]} {outcome.value.replace('_', ' ')}"
        for outcome in Outcome
        if counts[outcome]
    )
    style = "bold red" if counts[Outcome.DIVERGED] else "bold green"
    return Styled(f"{len(found)} recorded requests: {told}", style)
