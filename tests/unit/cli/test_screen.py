"""A terminal gets colours and bars, a pipe gets plain text."""

from __future__ import annotations

import io
import sys

import pytest

from smallmind._cli.blocks import Column, Grid
from smallmind._cli.screen import Screen

WIDE = Grid(title="wide", columns=(Column(),), sections=((("x" * 60,),),))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Opens a screen on standard streams that are terminals; gives the screen and its streams."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def begin() -> tuple[Screen, Terminal, Terminal]:
        out, err = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        return Screen.open(), out, err

    return begin


def say_all(screen: Screen) -> None:
    screen.heading("Head")
    screen.line("line", "bold")
    screen.show(WIDE)
    screen.show(WIDE, diagnostic=True)
    screen.note("note")
    screen.write("\x1b[2Jtext")


def test_a_pipe_gets_no_control_sequences(capsys):
    say_all(Screen.open())
    out, err = capsys.readouterr()
    assert out == f"\n== Head ==\nline\nwide\n{'x' * 60}\n\x1b[2Jtext"  # data goes through as it is
    assert err == f"wide\n{'x' * 60}\nnote\n"


def test_a_terminal_gets_styles_but_no_foreign_control_sequences(terminal):
    screen, out, err = terminal()
    say_all(screen)
    assert "\x1b[1m" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
    assert "\\x1b[2Jtext" in out.getvalue()
    assert "\x1b[" in err.getvalue()


def test_a_dumb_terminal_is_treated_as_a_pipe(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    screen, _, _ = terminal()
    assert not screen.fancy
    assert not screen.live


def test_no_color_is_obeyed(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    screen, out, _ = terminal()
    screen.line("line", "red")
    assert "\x1b[31m" not in out.getvalue()


@pytest.mark.parametrize(("columns", "rows"), [(200, 2), (80, 5)])
def test_pairs_stand_side_by_side_where_there_is_room(terminal, monkeypatch, columns, rows):
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = Grid(title="narrow", columns=(Column(),), sections=((("y" * 30,),),))
    screen, out, _ = terminal()
    screen.show_pairs((WIDE, narrow))
    assert len(out.getvalue().splitlines()) == rows


def test_pairs_on_a_pipe_stand_one_below_the_other(capsys):
    Screen.open().show_pairs((WIDE, WIDE))
    assert capsys.readouterr().out.splitlines() == ["wide", "x" * 60, "", "wide", "x" * 60]
