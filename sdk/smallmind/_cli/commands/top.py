"""``smallmind top``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer
from rich.console import RenderableType
from rich.live import Live

from smallmind._cli.exit_codes import ExitCode
from smallmind._cli.interrupts import interruptible
from smallmind._cli.scraping import Scraper
from smallmind._cli.screen import Screen
from smallmind._exporters import create_exporter
from smallmind.replay import EventLog, follow, replay
from smallmind_engine.control import CancellationToken
from smallmind_engine.telemetry import Exporter, SmallMindError
from smallmind_engine.telemetry.eventlog import Replayer
from smallmind_engine.telemetry.live import LiveFigures


class LivePanel(Exporter, Protocol):
    """The exporter ``console``, as far as it is needed here."""

    def renderable(self) -> RenderableType:
        """What it knows, drawn."""
        ...

    def view(self, figures: LiveFigures) -> RenderableType:
        """Figures from elsewhere, drawn."""
        ...


Show = Callable[[RenderableType], None]


def top(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="http://host:port/metrics of a running process, or a log that `jsonl` writes",
        ),
    ],
    *,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="seconds between two looks")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="show it once and end")] = False,
) -> ExitCode:
    """Watch what a running engine does: requests, speed, latencies, cache, memory, troubles.

    A page of metrics tells numbers only; a log also tells the requests one by one. Off a terminal
    the panel is printed once.
    """
    screen = Screen.open()
    panel = cast("LivePanel", create_exporter("console", live=False, title="smallmind top"))
    scrapes = source.startswith(("http://", "https://"))
    scraper = Scraper(source) if scrapes else None
    if once or not screen.fancy:
        if scraper is not None:
            screen.out.print(panel.view(scraper.figures()))
        else:
            replay(EventLog.open(Path(source)), (panel,))
            screen.out.print(panel.renderable())
        return ExitCode.OK
    with interruptible() as token, _drawn(screen) as show:
        if scraper is not None:
            _scrape(scraper, panel, show, _pause(token, interval))
        else:
            _follow(Path(source), panel, show, _pause(token, interval))
    return ExitCode.OK


@contextmanager
def _drawn(screen: Screen) -> Iterator[Show]:
    with Live(console=screen.out, auto_refresh=False, screen=True) as live:
        yield lambda panel: live.update(panel, refresh=True)


def _pause(token: CancellationToken, interval_s: float) -> Callable[[], bool]:
    """Waits so long; answers whether to go on."""
    ended = threading.Event()
    token.on_cancel(ended.set)
    return lambda: not ended.wait(interval_s)


def _scrape(scraper: Scraper, panel: LivePanel, show: Show, pause: Callable[[], bool]) -> None:
    """Show page after page; a page that cannot be had once is told and tried again."""
    show(panel.view(scraper.figures()))
    while pause():
        try:
            shown = panel.view(scraper.figures())
        except SmallMindError as error:
            shown = str(error)
        show(shown)


def _follow(path: Path, panel: LivePanel, show: Show, pause: Callable[[], bool]) -> None:
    """Take in what the log has, show it, and wait for more."""

    def wait() -> bool:
        show(panel.renderable())
        return pause()

    replayer = Replayer((panel,))
    for record in follow(path, wait):
        replayer.take(record)
