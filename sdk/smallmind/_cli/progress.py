"""Progress of pulling, loading and preparing a model, on the standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from smallmind._cli.formatting import bytes_text
from smallmind._cli.screen import Screen
from smallmind._registry import PullProgress, PullStage

_LABELS: Final = {
    PullStage.DOWNLOAD.value: "downloading",
    PullStage.EXTRACT.value: "unpacking",
    PullStage.VERIFY.value: "checking SHA-256",
    "read": "reading header",
    "weights": "preparing weights",
    "kernels": "preparing kernels",
}
_SLOW: Final = frozenset({PullStage.DOWNLOAD.value, "kernels"})
"""Phases that are worth a line where no bar can move."""
_SHARE_OF_WHOLE: Final = frozenset({"read"})
"""Phases that are done long before their total; a bar would look broken."""


class Bars:
    """A bar for each phase; on a pipe, a line when a slow phase begins.

    Args:
        screen: shows them.
        keep: leave the finished bars where they are.
    """

    def __init__(self, screen: Screen, *, keep: bool = False) -> None:
        self._screen = screen
        self._tasks: dict[str, TaskID] = {}
        self._told: set[str] = set()
        self._progress = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=32),
            DownloadColumn(binary_units=True),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=screen.err,
            transient=not keep,
            disable=not screen.live,
        )

    def update(self, phase: str, done: int, total: int) -> None:
        """A phase has done so many of its bytes; this is an ``on_progress`` of ``load``."""
        if phase in _SHARE_OF_WHOLE:
            return
        label = _LABELS.get(phase, phase)
        if not self._screen.live:
            if phase in _SLOW and phase not in self._told:
                self._screen.note(f"{label} ({bytes_text(total)})" if total else label)
            self._told.add(phase)
            return
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(label, total=total or None)
        self._progress.update(self._tasks[phase], completed=done, total=total or None)

    def pulled(self, progress: PullProgress) -> None:
        """The same, as an ``on_progress`` of ``pull``."""
        self.update(progress.stage, progress.done_bytes, progress.total_bytes)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
