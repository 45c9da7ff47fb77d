"""The report as a picture: bars of both engines, a row of panels for each model."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from compare_cases import LLAMA_CPP, SMALLMIND, Case
from compare_summary import SpeedRow, Spread, single_beside, speed_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "smallmind beside llama.cpp: same file, same threads, interleaved rounds"
PANELS = {
    "prefill": "prefill, by tokens of the prompt",
    "decode": "decode, by context",
    "concurrent": "decode of sequences side by side, total",
}
OUR_COLOUR, THEIR_COLOUR, INK = "#0b6e99", "#b9bec4", "#3c4248"
BAR = 0.38
PANEL_INCHES = (4.2, 2.5)
TOP_INCHES, BOTTOM_INCHES = 0.4, 0.6


def write_chart(report: dict, path: Path) -> None:
    """Draw the report into a PNG file; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    models = report["models"]
    cases = [Case(**case) for case in report["settings"]["cases"].values()]
    width, height = PANEL_INCHES
    figure = Figure(
        figsize=(width * len(PANELS), height * len(models) + TOP_INCHES + BOTTOM_INCHES)
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(models), len(PANELS), squeeze=False)
    for axes_row, model in zip(grid, models, strict=True):
        rows = _charted(speed_rows(model, cases))
        for axes, (group, title) in zip(axes_row, PANELS.items(), strict=True):
            _draw(axes, rows[group])
            axes.set_title(title, fontsize=9, color=INK)
        axes_row[0].set_ylabel(f"{model['name']}\ntokens/s", fontsize=10)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper right", ncols=2, frameon=False, fontsize=10)
    total = figure.get_figheight()
    figure.text(0.01, 1 - 0.1 / total, TITLE, fontsize=12, color=INK, va="top")
    figure.text(0.01, 0.01, caption(report), fontsize=8, color=INK, va="bottom")
    figure.tight_layout(rect=(0, BOTTOM_INCHES / total, 1, 1 - TOP_INCHES / total))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def caption(report: dict) -> str:
    """What was measured where and when."""
    machine, settings = report["machine"], report["settings"]
    packages = machine["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    text = (
        f"{report['date'][:10]}. {machine['cpu']}, {settings['threads']} threads"
        f" ({', '.join(machine['flags'])}). {machine['system']}, Python {machine['python']},"
        f" {versions}. Bars are medians of {settings['repeat']} round(s), whiskers their range,"
        f" numbers the median ratio of smallmind to llama.cpp."
    )
    return textwrap.fill(text, 190)


def _charted(rows: list[SpeedRow]) -> dict[str, list[tuple[int, SpeedRow]]]:
    """Rows and their numbers by panel; one sequence stands beside the concurrent ones."""
    panels: dict[str, list[tuple[int, SpeedRow]]] = {group: [] for group in PANELS}
    for row in rows:
        together = row.group == "concurrent"
        panels[row.group].append((row.case.sequences if together else row.case.context, row))
    singles = {
        single_beside(row.case, [other.case for other in rows]) for _, row in panels["concurrent"]
    }
    alone = [(1, row) for _, row in panels["decode"] if row.case in singles]
    panels["concurrent"] = alone + panels["concurrent"]
    return panels


def _draw(axes: Axes, rows: list[tuple[int, SpeedRow]]) -> None:
    tops: list[float] = []
    for at, (_, row) in enumerate(rows):
        pair = ((row.ours, -BAR / 2, OUR_COLOUR, SMALLMIND),
                (row.theirs, BAR / 2, THEIR_COLOUR, LLAMA_CPP))  # fmt: skip
        for found, shift, colour, name in pair:
            if found is not None:
                _bar(axes, at + shift, found, colour, name if at == 0 else None)
        tops.append(max((each.high for each, *_ in pair if each is not None), default=0.0))
        if row.ratio is not None:
            axes.annotate(
                f"{row.ratio.median:.2f}x", (at, tops[-1]), (0, 4), textcoords="offset points",
                ha="center", fontsize=9, fontweight="bold", color=INK,
            )  # fmt: skip
    axes.set_xticks(range(len(rows)), [str(number) for number, _ in rows])
    axes.set_xlim(-0.6, max(len(rows), 3) - 0.4)  # a lone pair is no broader than others
    axes.set_ylim(0, max(tops, default=1.0) * 1.18 or 1.0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)


def _bar(axes: Axes, at: float, found: Spread, colour: str, label: str | None) -> None:
    axes.bar(
        at, found.median, BAR, color=colour, label=label,
        yerr=[[found.median - found.low], [found.high - found.median]],
        error_kw={"elinewidth": 1, "capsize": 2, "ecolor": INK},
    )  # fmt: skip
