"""``smallmind validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smallmind import validation
from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import Json, emit, plain
from smallmind._cli.parameters import AsJson, Backend, Model
from smallmind._cli.progress import Bars
from smallmind._cli.screen import Screen
from smallmind._cli.validation_views import check_line, verdict
from smallmind._registry import resolve
from smallmind_engine.control import WorkLimit


def validate(
    model: Model,
    *,
    golden: Annotated[
        Path | None,
        typer.Option(
            "--golden",
            metavar="FILE",
            help="what a reference says; without it, what must hold for any model",
        ),
    ] = None,
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> ExitCode:
    """Check that a model does what it must.

    Prints a line a section with its figure and its limit. Exits with 0 when all hold, 1 when one
    does not, 2 when it could not compare.
    """
    screen = Screen.open()
    with interruptible() as token, Bars(screen) as bars:
        path = resolve(model, on_progress=bars.pulled, limit=WorkLimit(token))
    report = validation.validate(
        path,
        golden,
        backend=backend,
        on_check=None if as_json else lambda check: screen.cell(check_line(check)),
    )
    if as_json:
        emit(_document(report))
    else:
        screen.cell(verdict(report))
    if not report.checks:
        return ExitCode.CANNOT
    return ExitCode.OK if report.passed else ExitCode.FAILED


def _document(report: validation.ValidationReport) -> Json:
    return {
        "model": report.model,
        "backend": report.backend,
        "reference": report.reference,
        "passed": report.passed,
        "checks": [{**_fields(check), "passed": check.passed} for check in report.checks],
    }


def _fields(check: validation.ValidationCheck) -> Json:
    return {
        "name": check.name,
        "figure": plain(check.figure),
        "limit": plain(check.limit),
        "unit": check.unit,
        "detail": check.detail,
    }
