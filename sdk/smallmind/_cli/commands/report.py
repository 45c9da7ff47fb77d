"""``smallmind report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from smallmind._cli.commands.replay import Log
from smallmind._cli.formatting import bytes_text
from smallmind._cli.screen import Screen
from smallmind._report import collect, render
from smallmind.replay import EventLog


def report(
    log: Log,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="where the page goes; - for the standard output",
            show_default="LOG.html",
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", help="of the page", show_default="the log's name")
    ] = None,
) -> None:
    """Make one HTML page of a log: timeline, latencies, tokens, reasons, losses.

    The page holds all it needs and loads nothing, so it can be sent by mail and read offline.
    """
    screen = Screen.open()
    contents = collect(EventLog.open(log))
    page = render(contents, title or log.name)
    if str(output) == "-":
        sys.stdout.write(page)
        return
    path = output or log.with_name(f"{log.name}.html")
    path.write_text(page, encoding="utf-8")
    screen.note(f"{path}: {len(contents.requests):,} requests, {bytes_text(path.stat().st_size)}")
