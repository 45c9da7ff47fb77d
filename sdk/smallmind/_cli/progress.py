"""Progress of pulling, loading and preparing a model, on the standard error."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from smallmind._cli.formatting import bytes_text
from smallmind._cli.screen import Screen
from smallmind._registry import PullProgress, PullStage

_LABELS: Final = {
    PullStage.DOWNLOAD.value: "downloading",
    PullStage.EXTRACT.value: "unpacking",
    PullStage.VERIFY.value: "checking SHA-256",
    "read": "reading header",
    "weights": "preparing weights",
    "kernels": "compiling kernels",
    "documents": "indexing documents",
    "score": "scoring tokens",
}
_SLOW: Final = frozenset({PullStage.DOWNLOAD.value, "kernels", "documents", "score"})
"""Phases that are worth a line where no bar can move."""
_COUNTED: Final = frozenset({"kernels", "documents", "score"})
"""Phases that count things, not bytes."""
_SHARE_OF_WHOLE: Final = frozenset({"read"})
"""Phases that are done long before their total; a bar would look broken."""


class _AmountColumn(DownloadColumn):
    """How much of how much: bytes with their unit, or a plain count."""

    def render(self, task: Task) -> Text:
        if not task.fields.get("counted"):
            return super().render(task)
        return Text(f"{task.completed:.0f}/{task.total or 0:.0f}", style="progress.download")


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
            _AmountColumn(binary_units=True),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=screen.err,
            transient=not keep,
            disable=not screen.live,
        )

    def update(self, phase: str, done: int, total: int) -> None:
        """A phase has done so many of its bytes (or kernels); an ``on_progress`` of ``load``."""
        if phase in _SHARE_OF_WHOLE:
            return
        label = _LABELS.get(phase, phase)
        counted = phase in _COUNTED
        if not self._screen.live:
            if phase in _SLOW and phase not in self._told:
                amount = f"{total}" if counted else bytes_text(total)
                self._screen.note(f"{label} ({amount})" if total else label)
            self._told.add(phase)
            return
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(
                label, total=total or None, counted=counted
            )
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
