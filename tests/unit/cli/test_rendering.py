"""Grids on a terminal and through a pipe."""

from __future__ import annotations

import io

from rich.console import Console

from smallmind._cli.blocks import Bar, Column, Grid, Styled, facts
from smallmind._cli.rendering import plain_grid, rich_grid

GRID = Grid(
    title="Fruit",
    columns=(Column("name"), Column("count", right=True), Column("")),
    sections=((("apple", "7", Bar(0.5)), (Styled("fig", "green"), "12", Bar(1.0))),),
)


def on_terminal(grid: Grid, width: int = 80) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system="256")
    console.print(rich_grid(grid))
    return console.file.getvalue()


def test_plain_grids_are_aligned_lines():
    assert plain_grid(GRID).splitlines() == [
        "Fruit",
        "name   count",
        "apple      7  ##########",
        "fig       12  ####################",
    ]


def test_facts_have_no_head():
    grid = facts("", (("a", "1"),), (("long name", "2"),))
    assert plain_grid(grid) == "a          1\nlong name  2\n"


def test_a_grid_without_rows_is_its_head():
    assert plain_grid(Grid(columns=(Column("a"), Column("b")), sections=())) == "a  b\n"


def test_a_terminal_gets_styles_and_blocks():
    shown = on_terminal(GRID)
    assert "\x1b[32mfig" in shown
    assert "█" * 20 in shown


def test_a_small_share_is_still_seen_and_nothing_is_not():
    def bar(share: float) -> str:
        return on_terminal(Grid(columns=(Column(),), sections=(((Bar(share),),),)))

    assert "▏" in bar(1e-9)
    assert "▏" not in bar(0.0)


def test_shares_beyond_the_ends_do_not_leave_their_place():
    grid = Grid(columns=(Column(), Column()), sections=((("x", Bar(7.0)), ("x", Bar(-1.0))),))
    assert plain_grid(grid).splitlines() == ["x  " + "#" * 20, "x"]


def test_control_characters_of_strangers_do_not_reach_a_terminal():
    evil = "\x1b[2Jgone\x07"
    grid = Grid(title=evil, columns=(Column(),), sections=(((evil,), (Styled(evil, "red"),)),))
    assert "\x1b[2J" not in on_terminal(grid)
    assert "\x07" not in on_terminal(grid)
    assert "\x1b" not in plain_grid(grid)


def test_square_brackets_are_text_and_not_markup():
    grid = Grid(columns=(Column(),), sections=((("[bold]x[/bold]",),),))
    assert "[bold]x[/bold]" in on_terminal(grid)
    assert "[bold]x[/bold]" in plain_grid(grid)
