"""Where output goes: a terminal gets colours and bars, a pipe gets plain text."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from smallmind._cli.blocks import Grid, Styled
from smallmind._cli.formatting import harmless
from smallmind._cli.rendering import plain_grid, rich_grid

_WIDEST: Final = 120
"""Columns that output takes at most; wider lines are hard to read."""
_BETWEEN: Final = 4
_UNBOUNDED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Screen:
    """The standard output and the standard error of a command.

    Attributes:
        out: receives data and what people asked to see.
        err: receives progress and diagnostics.
        fancy: whether ``out`` is a terminal.
        live: whether ``err`` is a terminal, so that bars may move on it.
    """

    out: Console
    err: Console
    fancy: bool
    live: bool

    @classmethod
    def open(cls) -> Screen:
        """A screen over what are the standard streams now."""
        fancy, live = _is_terminal(sys.stdout), _is_terminal(sys.stderr)
        return cls(_console(sys.stdout, fancy), _console(sys.stderr, live), fancy, live)

    def write(self, text: str) -> None:
        """Put text out at once, as it is; on a terminal its control characters are escaped."""
        sys.stdout.write(harmless(text) if self.fancy else text)
        sys.stdout.flush()

    def show(self, grid: Grid, *, diagnostic: bool = False) -> None:
        """Show a table; ``diagnostic`` ones go to the standard error."""
        console, fancy = (self.err, self.live) if diagnostic else (self.out, self.fancy)
        if fancy:
            console.print(rich_grid(grid))
        else:
            console.file.write(plain_grid(grid))

    def flush(self) -> None:
        """Put out what is buffered."""
        self.out.file.flush()

    def show_all(self, grids: Sequence[Grid], *, diagnostic: bool = False) -> None:
        """Show tables, one below the other; ``diagnostic`` ones go to the standard error."""
        for index, grid in enumerate(grids):
            if index and diagnostic:
                self.note("")
            elif index:
                self.line()
            self.show(grid, diagnostic=diagnostic)

    def show_pairs(self, *pairs: tuple[Grid, Grid]) -> None:
        """Show tables side by side where a terminal has the room, else one below the other."""
        if self.fancy:
            beside = Table.grid(padding=(0, _BETWEEN), pad_edge=False)
            for index, (left, right) in enumerate(pairs):
                if index:
                    beside.add_row()
                beside.add_row(rich_grid(left), rich_grid(right))
            unbounded = self.out.options.update(width=_UNBOUNDED)
            if Measurement.get(self.out, unbounded, beside).maximum <= self.out.width:
                self.out.print(beside)
                return
        self.show_all([grid for pair in pairs for grid in pair])

    def cell(self, cell: Styled) -> None:
        """Show a line in its style."""
        self.line(cell.text, cell.style)

    def line(self, text: str = "", style: str = "") -> None:
        """Show a line."""
        if self.fancy:
            self.out.print(Text(harmless(text), style=style))
        else:
            self.out.file.write(harmless(text) + "\n")

    def heading(self, text: str) -> None:
        """Show the heading of a part."""
        if self.fancy:
            self.out.print()
            self.out.print(Rule(Text(text, style="bold"), align="left", style="dim"))
        else:
            self.out.file.write(f"\n== {text} ==\n")

    def note(self, text: str, style: str = "dim") -> None:
        """Say something on the standard error."""
        if self.live:
            self.err.print(Text(harmless(text), style=style))
        else:
            self.err.file.write(harmless(text) + "\n")


def _console(stream: TextIO, terminal: bool) -> Console:  # noqa: FBT001 - private
    console = Console(file=stream, force_terminal=terminal, highlight=False, markup=False)
    console.width = min(console.width, _WIDEST)
    return console


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}
