"""What a request shows of itself: its time ledger, its figures, its log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from smallmind._cli.blocks import Bar, Cell, Column, Grid, Styled, facts
from smallmind._cli.formatting import rate_text, seconds_text, share_text
from smallmind_engine.runtime import GenerationResult, Timings, status_of
from smallmind_engine.sampling import TokenLogprob
from smallmind_engine.telemetry import Phase, RequestStatus, StopReason

_STATUS_STYLES: Final = {
    RequestStatus.COMPLETED: "green",
    RequestStatus.CANCELLED: "yellow",
}
_PHASE_STYLES: Final = {
    Phase.PREFILL: "blue",
    Phase.DECODE: "cyan",
    Phase.SAMPLE: "magenta",
    Phase.UNATTRIBUTED: "red",
}

Row = tuple[Cell, ...]


def ledger_grid(
    timings: Timings, load_phases: Iterable[tuple[str, float]] = (), load_s: float = 0.0
) -> Grid:
    """Where the time of a request went; with ``load_phases``, that of loading before it."""
    request = [
        _ledger_row(phase.value, timings.ledger[phase], timings.total_s, _PHASE_STYLES.get(phase))
        for phase in Phase
    ]
    request.append(_sum_row("request", timings.total_s))
    load = [_ledger_row(f"load: {name}", s, load_s, "green") for name, s in load_phases]
    if load:
        load.append(_sum_row("load", load_s))
    return Grid(
        title="Time ledger",
        columns=(
            Column("phase"),
            Column("time", right=True),
            Column("share", right=True),
            Column(""),
        ),
        sections=tuple(tuple(section) for section in (load, request) if section),
    )


def _ledger_row(name: str, seconds: float, total_s: float, style: str | None) -> Row:
    share = seconds / total_s if total_s > 0.0 else 0.0
    return (name, seconds_text(seconds), share_text(share), Bar(share, style or "yellow"))


def _sum_row(name: str, seconds: float) -> Row:
    return (Styled(name, "bold"), Styled(seconds_text(seconds), "bold"), "", "")


def stop_cell(reason: StopReason) -> Styled:
    """A stop reason in the colour of its status."""
    return Styled(reason.value, _STATUS_STYLES.get(status_of(reason), "red"))


def request_facts(result: GenerationResult) -> Grid:
    """The figures of a request, and its ids."""
    usage, timings, ids = result.usage, result.timings, result.correlation
    cached = f", {usage.cached_tokens} of them from the KV cache" if usage.cached_tokens else ""
    speed: tuple[tuple[str, Cell], ...] = (
        ("stop reason", stop_cell(result.stop_reason)),
        ("prompt", f"{usage.prompt_tokens} tokens{cached}"),
        ("completion", f"{usage.completion_tokens} tokens"),
        ("time to first token", seconds_text(timings.time_to_first_token_s)),
        ("prefill", rate_text(timings.prefill_tokens_per_second)),
        ("decode", rate_text(timings.tokens_per_second)),
        ("time attributed", share_text(timings.attributed_share, 2)),
    )
    identity: tuple[tuple[str, Cell], ...] = (
        ("backend", result.backend),
        ("seed", str(result.seed)),
        ("request id", ids.request_id),
        ("session id", ids.session_id or "-"),
        ("trace id", ids.trace_id),
    )
    return facts("Request", speed, identity)


def logprob_grid(logprobs: Iterable[TokenLogprob], text_of: Callable[[int], str]) -> Grid:
    """Each token with its probability and its likeliest alternatives."""
    rows = [
        (
            repr(text_of(each.token_id)),
            f"{each.logprob:.3f}",
            share_text(math.exp(each.logprob)),
            "  ".join(f"{text_of(token)!r} {share_text(math.exp(p))}" for token, p in each.top),
        )
        for each in logprobs
    ]
    return Grid(
        title="Log-probabilities",
        columns=(
            Column("token"),
            Column("logprob", right=True),
            Column("probability", right=True),
            Column("likeliest", fold=True),
        ),
        sections=(tuple(rows),),
    )
