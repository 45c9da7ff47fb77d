"""``smallmind inspect``."""

from __future__ import annotations

from typing import Annotated

import typer

from smallmind._cli.inspection import inspect_file
from smallmind._cli.inspection_views import (
    file_grid,
    inspection_document,
    memory_grid,
    metadata_grid,
    quantisation_grid,
    tensor_grid,
    tokenizer_grid,
)
from smallmind._cli.interrupts import interruptible
from smallmind._cli.json_documents import emit
from smallmind._cli.parameters import AsJson, Backend, Model
from smallmind._cli.progress import Bars
from smallmind._cli.screen import Screen
from smallmind._registry import resolve
from smallmind_engine.control import WorkLimit


def inspect_model(
    model: Model,
    *,
    full: Annotated[bool, typer.Option("--full", help="long values in full")] = False,
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Show what a model file holds and what it would take to run it."""
    screen = Screen.open()
    with interruptible() as token:
        limit = WorkLimit(token)
        with Bars(screen) as bars:
            path = resolve(model, on_progress=bars.pulled, limit=limit)
        found = inspect_file(path, backend=backend, limit=limit)
    if as_json:
        emit(inspection_document(found, full=full))
        return
    grids = [file_grid(found), metadata_grid(found, full=full), tensor_grid(found.tensors)]
    grids.append(quantisation_grid(found.quantisation))
    if found.tokenizer is not None:
        grids.append(tokenizer_grid(found.tokenizer))
    if found.memory is not None:
        grids.append(memory_grid(found.memory))
    screen.show_all(grids)
