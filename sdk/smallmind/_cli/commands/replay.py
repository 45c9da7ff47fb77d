"""``smallmind replay``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

import typer

from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import Json, emit, plain
from smallmind._cli.parameters import AsJson, complete_model
from smallmind._cli.replay_views import (
    latency_grid,
    log_grid,
    metrics_grid,
    verification_grid,
    verification_line,
)
from smallmind._cli.requests import load_with_bars
from smallmind._cli.screen import Screen
from smallmind._exporters import create_exporter
from smallmind.replay import (
    EventLog,
    EventSourcedMetrics,
    Outcome,
    RecordedRequest,
    ReplayReport,
    Verification,
    recorded_requests,
    replay,
    verify_request,
)
from smallmind_engine.control import CancellationToken
from smallmind_engine.runtime import EngineOptions
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import EventLogError

_FLUSH_TIMEOUT_S = 30.0

Log = Annotated[
    Path,
    typer.Argument(metavar="LOG", help="the latest file of a log that the exporter `jsonl` wrote"),
]


@runtime_checkable
class Rendering(Protocol):
    """An exporter whose state is a page."""

    def render(self, *, openmetrics: bool = False) -> bytes:
        """The page now."""
        ...


def replay_log(
    log: Log,
    *,
    exporter: Annotated[
        str | None,
        typer.Option(
            "--exporter", help="feed it the log, and print its page if it has one, as `prometheus`"
        ),
    ] = None,
    openmetrics: Annotated[
        bool, typer.Option("--openmetrics", help="print the page as OpenMetrics with exemplars")
    ] = False,
    verify: Annotated[
        str | None,
        typer.Option(
            "--verify",
            metavar="MODEL",
            help="run the recorded requests again on this model and compare the tokens",
            autocompletion=complete_model,
        ),
    ] = None,
    request: Annotated[
        str | None, typer.Option("--request", metavar="ID", help="verify this request only")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option("--backend", help="what computes", show_default="the recorded one"),
    ] = None,
    as_json: AsJson = False,
) -> ExitCode:
    """Rebuild from a log what its process knew, or run its requests again.

    Without an option: what the log holds and the metrics at its end. With `--exporter` the
    exporter gets every event, with the times and ids of then. With `--verify` requests that the
    flight recorder logged are run again; exits with 1 when one of them gives other tokens.
    """
    screen = Screen.open()
    opened = EventLog.open(log)
    if verify is not None:
        return _verify(screen, opened, verify, request, backend, as_json=as_json)
    if exporter is not None:
        return _feed(screen, opened, exporter, openmetrics=openmetrics)
    metrics = EventSourcedMetrics()
    report = replay(opened, (metrics,))
    if as_json:
        emit({**_report_document(opened, report), "metrics": plain(metrics.snapshot())})
    else:
        snapshot = metrics.snapshot()
        screen.show_all((log_grid(opened, report), metrics_grid(snapshot), latency_grid(snapshot)))
    return ExitCode.OK


def _feed(screen: Screen, log: EventLog, name: str, *, openmetrics: bool) -> ExitCode:
    target = create_exporter(name)
    try:
        report = replay(log, (target,))
        flushed = target.flush(_FLUSH_TIMEOUT_S)
        if isinstance(target, Rendering):
            sys.stdout.write(target.render(openmetrics=openmetrics).decode())
    finally:
        target.close()
    told = f"{report.events:,} events replayed into {name!r}"
    if not report.complete:
        told += "; the log is not complete: smallmind replay LOG tells why"
    if not flushed.complete:
        told += f"; not all arrived: {flushed}"
    screen.note(told)
    return ExitCode.OK if flushed.complete else ExitCode.FAILED


def _verify(
    screen: Screen,
    log: EventLog,
    model: str,
    request_id: str | None,
    backend: str | None,
    *,
    as_json: bool,
) -> ExitCode:
    wanted = [
        each
        for each in recorded_requests(log.events())
        if request_id is None or each.request_id == request_id
    ]
    if not wanted:
        raise EventLogError(
            ReasonCode.REQUEST_NOT_RECORDED,
            f"{log.paths[-1]}: no recorded request" + (f" {request_id!r}" if request_id else ""),
            hint="record with JsonLinesExporter(record_requests=True) or"
            " SMALLMIND_FLIGHT_RECORDER=1, and capture_content=True",
        )
    with interruptible() as token:
        found = _run_again(screen, wanted, model, backend, token)
    if as_json:
        emit({"requests": plain(found)})
    else:
        screen.show(verification_grid(found))
        screen.line()
        screen.cell(verification_line(found))
    if token.is_cancelled:
        return ExitCode.INTERRUPTED
    if all(each.outcome is Outcome.NOT_COMPARABLE for each in found):
        return ExitCode.CANNOT
    diverged = any(each.outcome is Outcome.DIVERGED for each in found)
    return ExitCode.FAILED if diverged else ExitCode.OK


def _run_again(
    screen: Screen,
    wanted: list[RecordedRequest],
    model: str,
    backend: str | None,
    token: CancellationToken,
) -> list[Verification]:
    recorded = wanted[0].record
    settings = dict(recorded.runtime)
    options = EngineOptions(
        backend=backend or recorded.backend,
        kv_cache_type=settings.get("kv_cache_type") if backend is None else None,  # type: ignore[arg-type]  # a name will do
        context_length=int(settings["context_length"]) if "context_length" in settings else None,
    )
    with load_with_bars(screen, model, options=options, exporters=(), cancellation=token) as engine:
        found = []
        for each in wanted:
            if token.is_cancelled:
                break
            found.append(verify_request(each, engine, cancellation=token))
        return found


def _report_document(log: EventLog, report: ReplayReport) -> Json:
    return {
        "header": plain(log.header),
        "files": [str(path) for path in log.paths],
        "complete": report.complete,
        "log": plain(report),
    }
