"""``smallmind validate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import emit
from smallmind._cli.parameters import Backend, ContextLength, Model, Weights
from smallmind._cli.progress import Bars
from smallmind._cli.screen import Screen
from smallmind._cli.validation_views import report_document, result_line, verdict
from smallmind._registry import resolve
from smallmind.validation import (
    CHECKS,
    CheckStatus,
    ValidationOptions,
    ValidationReport,
    ValidationRunner,
    junit_xml,
)
from smallmind.validation.selection import LOAD
from smallmind_engine.control import WorkLimit
from smallmind_engine.runtime import EngineOptions

_STDOUT: Final = Path("-")


def _complete_check(incomplete: str) -> list[str]:
    return [check.name for check in CHECKS if check.name.startswith(incomplete)]


def _complete_only(incomplete: str) -> list[str]:
    return [LOAD] * LOAD.startswith(incomplete) + _complete_check(incomplete)


Checks = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="CHECK",
        help="run this check; * stands for any letters; may be given again",
        show_default="all",
        autocompletion=_complete_only,
    ),
]


def validate(
    model: Model,
    *,
    golden: Annotated[
        list[Path] | None,
        typer.Option(
            "--golden",
            metavar="PATH",
            envvar="SMALLMIND_GOLDEN_DIR",
            help="what references say: a file, or a folder of which those for this model are"
            " taken; may be given again",
        ),
    ] = None,
    only: Checks = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(
            "--skip",
            metavar="CHECK",
            help="leave this check out; likewise",
            autocompletion=_complete_check,
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="look at less of everything, load the model once")
    ] = False,
    min_decode: Annotated[
        float | None,
        typer.Option("--min-decode", help="tokens a second that answers must have"),
    ] = None,
    min_prefill: Annotated[
        float | None,
        typer.Option("--min-prefill", help="tokens a second that prompts must be read with"),
    ] = None,
    check_timeout: Annotated[
        float | None, typer.Option("--check-timeout", help="seconds that a check may take")
    ] = None,
    backend: Backend = "auto",
    weights: Weights = None,
    context_length: ContextLength = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="write the report there as JSON; - for standard output"
        ),
    ] = None,
    junit_file: Annotated[
        Path | None,
        typer.Option(
            "--junit", metavar="FILE", help="write the report there as JUnit XML; - likewise"
        ),
    ] = None,
) -> ExitCode:
    """Check that a model does what it must.

    Prints a line for each check: whether it holds, how long it took, and what was seen. Works with
    any model; golden files say more of those that they were made for. Exits with 0 when all checks
    hold, 1 when one does not, 2 when nothing could be checked. Ctrl-C ends it with the report so
    far.
    """
    screen = Screen.open()
    silent = _STDOUT in {json_file, junit_file}
    options = ValidationOptions(
        only=tuple(only or ()),
        skip=tuple(skip or ()),
        quick=quick,
        check_timeout=check_timeout,
        min_decode_speed=min_decode,
        min_prefill_speed=min_prefill,
    )
    with interruptible() as token:
        with Bars(screen) as bars:
            path = resolve(model, on_progress=bars.pulled, limit=WorkLimit(token))
        runner = ValidationRunner(
            path,
            golden=golden,
            options=options,
            engine_options=EngineOptions(
                backend=backend, weights=weights, context_length=context_length
            ),
            cancellation=token,
            on_result=None if silent else lambda result: screen.cell(result_line(result)),
        )
        report = runner.run()
    if not silent:
        screen.cell(verdict(report))
    _write(report, json_file, junit_file)
    return _code(report)


def _write(report: ValidationReport, json_file: Path | None, junit_file: Path | None) -> None:
    if json_file == _STDOUT:
        emit(report_document(report))
    elif json_file is not None:
        text = json.dumps(report_document(report), indent=2, allow_nan=False)
        json_file.write_text(text + "\n", encoding="utf-8")
    if junit_file == _STDOUT:
        Screen.open().write(junit_xml(report))
    elif junit_file is not None:
        junit_file.write_text(junit_xml(report), encoding="utf-8")


def _code(report: ValidationReport) -> ExitCode:
    if report.interrupted:
        return ExitCode.INTERRUPTED
    if report.of(CheckStatus.FAILED):
        return ExitCode.FAILED
    return ExitCode.OK if report.passed else ExitCode.CANNOT
