"""Progress bars, and what stands for them where no bar can move."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from smallmind._cli.progress import Bars
from smallmind._cli.screen import Screen
from smallmind._registry import PullProgress, PullStage

MIB = 1 << 20


def screen(*, live: bool) -> Screen:
    out, err = (
        Console(file=io.StringIO(), force_terminal=live, width=100, highlight=False)
        for _ in range(2)
    )
    return Screen(out, err, fancy=live, live=live)


def steps(bars: Bars) -> None:
    bars.pulled(PullProgress(PullStage.DOWNLOAD, 0, 4 * MIB))
    bars.pulled(PullProgress(PullStage.DOWNLOAD, 4 * MIB, 4 * MIB))
    bars.update("read", 10, 100)
    bars.update("weights", 1, 2)
    bars.update("weights", 2, 2)
    bars.update("something new", 1, 0)


def test_a_terminal_gets_a_bar_for_each_phase():
    shown = screen(live=True)
    with Bars(shown, keep=True) as bars:
        steps(bars)
    text = shown.err.file.getvalue()
    for label in ("downloading", "preparing weights", "something new"):
        assert label in text
    assert "reading header" not in text
    assert shown.out.file.getvalue() == ""


def test_a_pipe_gets_one_line_for_a_slow_phase():
    shown = screen(live=False)
    with Bars(shown) as bars:
        steps(bars)
    assert shown.err.file.getvalue() == "downloading (4.0 MiB)\n"


def test_a_download_of_unknown_size_is_told_without_it():
    shown = screen(live=False)
    with Bars(shown) as bars:
        bars.update("download", 1, 0)
    assert shown.err.file.getvalue() == "downloading\n"


def test_bars_go_when_the_work_fails():
    shown = screen(live=True)

    def work() -> None:
        with Bars(shown) as bars:
            bars.update("weights", 1, 2)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - nobody else raises here
        work()
    assert "\x1b[?25h" in shown.err.file.getvalue()  # the cursor is back


def test_kernels_are_counted_and_not_weighed():
    live, pipe = screen(live=True), screen(live=False)
    for shown in (live, pipe):
        with Bars(shown, keep=True) as bars:
            bars.update("kernels", 0, 24)
            bars.update("kernels", 3, 24)
    assert "compiling kernels" in live.err.file.getvalue()
    assert "3/24" in live.err.file.getvalue()
    assert pipe.err.file.getvalue() == "compiling kernels (24)\n"
