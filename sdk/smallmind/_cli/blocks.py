"""What commands show, before it is known whether a terminal or a pipe receives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Styled:
    """Text with a style that terminals show."""

    text: str
    style: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of one, drawn."""

    share: float
    style: str = "cyan"


Cell = str | Styled | Bar


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a grid.

    Attributes:
        title: its heading.
        right: whether it is aligned to the right, as numbers are.
        style: of its cells.
        fold: whether long cells go on in the next line; else they are cut on narrow terminals.
    """

    title: str = ""
    right: bool = False
    style: str = ""
    fold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table.

    Attributes:
        title: stands above it.
        columns: their headings; without any title there is no head.
        sections: groups of rows, a line between them.
    """

    title: str = ""
    columns: tuple[Column, ...]
    sections: tuple[tuple[tuple[Cell, ...], ...], ...]


def facts(title: str, *sections: tuple[tuple[str, Cell], ...]) -> Grid:
    """A grid of names and values."""
    return Grid(
        title=title,
        columns=(Column(style="dim"), Column(fold=True)),
        sections=tuple(tuple(sections_rows) for sections_rows in sections),
    )
