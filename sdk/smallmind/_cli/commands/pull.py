"""``smallmind pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from smallmind._cli.interrupts import interruptible
from smallmind._cli.parameters import Name
from smallmind._cli.progress import Bars
from smallmind._cli.screen import Screen
from smallmind._registry import pull as pull_model
from smallmind_engine.control import WorkLimit


def pull(
    name: Name,
    *,
    force: Annotated[bool, typer.Option("--force", help="fetch it even when it is here")] = False,
) -> None:
    """Fetch a model into the cache, check its SHA-256, and print its path."""
    screen = Screen.open()
    with interruptible() as token, Bars(screen, keep=True) as bars:
        path = pull_model(name, on_progress=bars.pulled, limit=WorkLimit(token), force=force)
    screen.line(str(path))
