"""Draws what the engine does right now, in the terminal that the process runs in."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from smallmind_engine.telemetry import (
    Event,
    ExporterHealth,
    FlushResult,
    Snapshot,
    now_ns,
    renew_in_child,
)
from smallmind_engine.telemetry.errors import MissingExtraError
from smallmind_engine.telemetry.live import LIVE_KINDS, LiveFigures, LiveTracker

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

REDRAWS_PER_SECOND: Final = 2.0

HealthSource = Callable[[], tuple[ExporterHealth, ...]]


class ConsoleExporter:
    """A live panel on the standard error: requests, speed, latencies, cache, memory, troubles.

    On a terminal it is redrawn twice a second from its first event on; elsewhere the panel is
    printed once, when the exporter is closed. A forked child draws nothing.

    Args:
        console: a ``rich`` console to draw on; the standard error when None.
        live: whether to redraw while events come; when None, if the console is a terminal.
        redraws_per_second: how often.
        title: stands above the panel.

    Raises:
        MissingExtraError: ``rich`` is not installed.
    """

    name: Final = "console"
    inline: Final = True
    interests: Final = LIVE_KINDS

    def __init__(
        self,
        *,
        console: Console | None = None,
        live: bool | None = None,
        redraws_per_second: float = REDRAWS_PER_SECOND,
        title: str = "smallmind",
    ) -> None:
        try:
            from rich.console import Console as RichConsole
        except ModuleNotFoundError as error:
            raise MissingExtraError("cli", "the console exporter") from error
        self._console = console or RichConsole(stderr=True, markup=False, highlight=False)
        self._draws = self._console.is_terminal if live is None else live
        self._redraws_per_second = redraws_per_second
        self._title = title
        self._tracker = LiveTracker()
        self._health: tuple[HealthSource, ...] = ()
        self._closed = False
        self._in_child = False
        self._start_afresh()
        renew_in_child(self)

    def begin_in_child(self) -> None:
        """Draw nothing, as in a forked child: the terminal is the parent's."""
        self._tracker.begin_in_child()
        self._in_child = True
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._taken = 0

    def bind_health(self, health: HealthSource, /) -> None:
        """Show what the exporters of a bus have lost."""
        if health not in self._health:
            self._health = (*self._health, health)

    def restore(self, snapshot: Snapshot, /) -> None:
        """Begin with the counts of a log's snapshot."""
        self._tracker.restore(snapshot)

    def export(self, event: Event, /) -> None:
        """Take one event in; the panel is drawn by a thread of its own."""
        with self._lock:
            if self._closed:
                return
            self._taken += 1
            if self._draws and self._live is None and not self._in_child:
                self._start()
        self._tracker.take(event)

    def _start(self) -> None:
        from rich.live import Live

        self._live = Live(
            console=self._console,
            get_renderable=self.renderable,
            refresh_per_second=self._redraws_per_second,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        atexit.register(self.close)  # or the terminal would be left without its cursor

    def figures(self) -> LiveFigures:
        """What the panel shows, as numbers."""
        lost = sum(each.dropped for source in self._health for each in source())
        return replace(self._tracker.figures(now_ns()), lost_events=lost)

    def renderable(self) -> RenderableType:
        """The panel as it is now, for a ``rich`` display of your own."""
        return self.view(self.figures())

    def view(self, figures: LiveFigures) -> RenderableType:
        """The panel for figures from elsewhere, such as a scrape."""
        from smallmind_exporters.console.view import panel

        return panel(figures, self._title)

    def flush(self, timeout_s: float) -> FlushResult:  # noqa: ARG002 - nothing is held back
        """Nothing is held back: every event is in the next drawing."""
        return FlushResult(delivered=self._taken)

    def close(self) -> None:
        """Draw a last time. May be called more than once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            live, self._live = self._live, None
        atexit.unregister(self.close)
        if live is not None:
            live.stop()
        elif self._taken and not self._in_child:
            self._console.print(self.renderable())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
