"""``smallmind warmup``."""

from __future__ import annotations

from typing import Annotated

import typer

from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import emit
from smallmind._cli.parameters import AsJson, Backend, complete_model
from smallmind._cli.progress import Bars
from smallmind._cli.screen import Screen
from smallmind._registry import resolve
from smallmind_engine.control import WorkLimit
from smallmind_engine.gguf import GgufFile
from smallmind_engine.kernels import CompileReport, prepare_kernels

_WORK = "compiling kernels"


def warmup(
    *,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="only what this model needs, fetched if it is not here; may be given again",
            show_default="all types of weights",
            autocompletion=complete_model,
        ),
    ] = None,
    backend: Backend = "numba",
    as_json: AsJson = False,
) -> ExitCode:
    """Compile the kernels ahead, so that the first load does not have to.

    Kernels are kept in $SMALLMIND_CACHE_DIR or the user's cache folder, for this kind of CPU and
    these versions of the packages. Exits with 1 when they cannot be kept.
    """
    screen = Screen.open()
    with interruptible() as token, Bars(screen) as bars:
        limit = WorkLimit(token)
        needed = _types_of(models, bars, limit) if models else None

        def progress(_: str, done: int, total: int) -> None:
            limit.check(_WORK)
            bars.update("kernels", done, total)

        report = prepare_kernels(backend, needed, on_progress=progress)
    if as_json:
        emit({"backend": backend, "quant_types": needed, "report": report})
    else:
        screen.line(_summary(report))
        if report.directory is not None:
            screen.line(str(report.directory))
    if report.directory is None:
        screen.note(f"the kernels are not kept: {report.problem}", "red")
        return ExitCode.FAILED
    return ExitCode.OK


def _types_of(models: list[str], bars: Bars, limit: WorkLimit) -> list[str]:
    """Names of the types that the weights of these models have, each once."""
    types: set[str] = set()
    for model in models:
        path = resolve(model, on_progress=bars.pulled, limit=limit)
        with GgufFile.open(path, limit=limit) as file:
            types.update(tensor.qtype.name for tensor in file.tensors.values())
    return sorted(types)


def _summary(report: CompileReport) -> str:
    count = report.compiled + report.cached
    return (
        f"{count} kernels ready in {report.seconds:.1f} s:"
        f" {report.compiled} compiled, {report.cached} found in the cache"
    )
