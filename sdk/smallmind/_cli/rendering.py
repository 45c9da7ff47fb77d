"""Grids as rich tables and as plain text."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from smallmind._cli.blocks import Bar, Cell, Column, Grid, Styled
from smallmind._cli.formatting import harmless, one_line

_BAR_WIDTH: Final = 20
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_GAP: Final = "  "


def rich_grid(grid: Grid) -> Table:
    """The grid for a terminal."""
    headed = any(column.title for column in grid.columns)
    table = Table(
        title=Text(harmless(grid.title), style="bold") if grid.title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=headed,
        header_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for column in grid.columns:
        table.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            style=column.style,
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "ellipsis",
        )
    for section in grid.sections:
        for row in section:
            table.add_row(*(_rich_cell(cell) for cell in row))
        table.add_section()
    return table


def _rich_cell(cell: Cell) -> Text:
    match cell:
        case Bar(share, style):
            return Text(_blocks(share), style=style)
        case Styled(text, style):
            return Text(harmless(text), style=style)
        case text:
            return Text(harmless(text))


def _blocks(share: float) -> str:
    """A bar in eighths of a character; what is not nothing shows at least one."""
    eighths = round(_within(share) * _BAR_WIDTH * 8)
    if not eighths and share > 0:
        eighths = 1
    full, rest = divmod(eighths, 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def plain_grid(grid: Grid) -> str:
    """The grid for a pipe: aligned columns, one row a line, nothing cut."""
    rows = [[_plain_cell(cell) for cell in row] for section in grid.sections for row in section]
    if any(column.title for column in grid.columns):
        rows.insert(0, [column.title for column in grid.columns])
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(len(grid.columns))]
    lines = [_plain_row(row, widths, grid.columns) for row in rows]
    title = [one_line(grid.title)] if grid.title else []
    return "".join(f"{line}\n" for line in title + lines)


def _plain_row(row: list[str], widths: list[int], columns: tuple[Column, ...]) -> str:
    cells = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, width, column in zip(row, widths, columns, strict=True)
    )
    return _GAP.join(cells).rstrip()


def _plain_cell(cell: Cell) -> str:
    match cell:
        case Bar(share):
            return "#" * round(_within(share) * _BAR_WIDTH)
        case Styled(text):
            return one_line(text)
        case text:
            return one_line(text)


def _within(share: float) -> float:
    return min(1.0, max(0.0, share))
