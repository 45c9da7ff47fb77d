"""Draw the panels of the dashboards from a running Prometheus, without Grafana.

``python dashboards/draw.py http://localhost:9090 FOLDER --minutes 30``; needs matplotlib. The
layout is that of the dashboards, the looks are matplotlib's: what is drawn is the answer of
Prometheus to each panel's own queries.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from boards import BOARDS, Board, Panel, PanelKind, Query

POINTS: Final = 120
WIDTH_INCHES: Final = 13.0
INCHES_A_ROW: Final = 0.3
DPI: Final = 80
PATIENCE_S: Final = 30  # to look back for a scrape that did not fail
LEGEND: Final = 10  # entries that a legend has room for
HIDDEN: Final = {"__name__", "job"}
_SCALES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SMALL: Final = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_ENDINGS: Final = {
    "s": "s",
    "bytes": "B",
    "Bps": "B/s",
    "flops": "op/s",
    "reqps": "req/s",
    "ops": "/s",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A Prometheus, and the time to draw.

    Attributes:
        url: of Prometheus.
        begin_s: seconds since the Unix epoch.
        end_s: likewise.
    """

    url: str
    begin_s: float
    end_s: float

    def ask(self, path: str, **parameters: object) -> list[dict[str, Any]]:
        """The series that a query gives."""
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:  # noqa: S310 - the user's own Prometheus
            series: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return series

    def typed(self, expression: str) -> str:
        """An expression with the variables that Grafana would fill in."""
        for variable, value in (
            ("$__rate_interval", f"{max(5, int((self.end_s - self.begin_s) / 12))}s"),
            ("$__range", f"{max(60, int(self.end_s - self.begin_s))}s"),
            ("$model", ".*"),
            ("$instance", ".*"),
        ):
            expression = expression.replace(variable, value)
        return expression

    def over_time(self, query: Query) -> list[dict[str, Any]]:
        """The query at each step of the time."""
        step = max(1.0, (self.end_s - self.begin_s) / POINTS)
        return self.ask(
            "query_range",
            query=self.typed(query.expr),
            start=self.begin_s,
            end=self.end_s,
            step=f"{step:.3f}",
        )

    def now(self, query: Query) -> list[dict[str, Any]]:
        """The query at the end of the time, or shortly before when a scrape failed there."""
        answers = (
            self.ask("query", query=self.typed(query.expr), time=self.end_s - back_s)
            for back_s in range(0, PATIENCE_S, 2)
        )
        return next((answer for answer in answers if answer), [])


def draw_board(board: Board, source: Source) -> Figure:
    """One picture of all panels, laid out as on the dashboard."""
    places, height = _layout(board)
    figure = Figure(figsize=(WIDTH_INCHES, height * INCHES_A_ROW), dpi=DPI)
    figure.patch.set_facecolor("white")
    for panel, (left, top) in zip(board.panels, places, strict=True):
        box = (
            (left + 1.2) / 24,
            1 - (top + panel.height - 1.5) / height,
            (panel.width - 1.6) / 24,
            (panel.height - 2.7) / height,
        )
        axes = figure.add_axes(box)
        axes.set_title(panel.title, fontsize=9, loc="left", fontweight="bold")
        {
            PanelKind.LINES: _draw_lines,
            PanelKind.STACKED: _draw_lines,
            PanelKind.NUMBER: _draw_number,
            PanelKind.TABLE: _draw_table,
        }[panel.kind](axes, panel, source)
    return figure


def _layout(board: Board) -> tuple[list[tuple[int, int]], int]:
    places: list[tuple[int, int]] = []
    top = 0
    for row in board.rows:
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > 24:
                top, left, tallest = top + tallest, 0, 0
            places.append((left, top))
            left += panel.width
            tallest = max(tallest, panel.height)
        top += tallest
    return places, top


def _draw_lines(axes: Axes, panel: Panel, source: Source) -> None:
    names: list[str] = []
    lines: list[tuple[list[float], list[float]]] = []
    for query in panel.queries:
        for series in sorted(source.over_time(query), key=_height, reverse=True):
            points = [(float(at) - source.begin_s, float(value)) for at, value in series["values"]]
            lines.append(([at for at, _ in points], [value for _, value in points]))
            names.append(_legend(query, series["metric"]))
    if panel.kind is PanelKind.STACKED:
        times = sorted({at for line in lines for at in line[0]})
        rows = [_on(times, line) for line in lines]
        if rows:
            axes.stackplot(times, *rows, labels=names, alpha=0.75)
    else:
        for (times, values), name in zip(lines, names, strict=True):
            axes.plot(times, values, label=name, linewidth=1.2)
    axes.set_xlim(0, source.end_s - source.begin_s)
    axes.set_ylim(0, panel.top)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:.0f} s"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, panel.unit)))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if names:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[:LEGEND], labels[:LEGEND], fontsize=5, loc="upper left", framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="grey")


def _height(series: dict[str, Any]) -> float:
    """The highest value, so that the legend names what can be seen."""
    values = [float(value) for _, value in series["values"]]
    return max((value for value in values if math.isfinite(value)), default=0.0)


def _on(times: Sequence[float], line: tuple[list[float], list[float]]) -> list[float]:
    """The values of a line at ``times``; zero where it has none."""
    known = dict(zip(*line, strict=True))
    values = [known.get(at, 0.0) for at in times]
    return [value if math.isfinite(value) else 0.0 for value in values]


def _draw_number(axes: Axes, panel: Panel, source: Source) -> None:
    axes.axis("off")
    series = source.now(panel.queries[0])
    text = shown(float(series[0]["value"][1]), panel.unit) if series else "no data"
    axes.text(0.5, 0.35, text, transform=axes.transAxes, ha="center", fontsize=17)


def _draw_table(axes: Axes, panel: Panel, source: Source) -> None:
    axes.axis("off")
    series = source.now(panel.queries[0])
    if not series:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="grey")
        return
    columns = [name for name in series[0]["metric"] if name not in HIDDEN]
    rows = [
        [_short(one["metric"].get(name, "")) for name in columns]
        + [shown(float(one["value"][1]), panel.unit)]
        for one in series[:12]
    ]
    table = axes.table(
        cellText=rows, colLabels=[*columns, "value"], loc="upper left", cellLoc="left"
    )
    table.auto_set_font_size(value=False)
    table.set_fontsize(6)
    table.auto_set_column_width(list(range(len(columns) + 1)))


def _short(text: str) -> str:
    return text if len(text) <= 28 else text[:25] + "..."


def _legend(query: Query, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda m: labels.get(m[1], ""), query.legend)


def shown(value: float, unit: str) -> str:
    """A value with its unit, in few characters."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    scales = _SMALL if unit == "s" else _SCALES
    scale, letter = next((row for row in scales if abs(value) >= row[0]), scales[-1])
    return f"{value / scale:.3g} {letter}{_ENDINGS.get(unit, '')}".rstrip()


def main(arguments: list[str]) -> int:
    """Draw all boards; answers with the exit code."""
    parser = argparse.ArgumentParser(description="Draw the dashboards from a running Prometheus.")
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args(arguments)
    now = time.time()
    given.folder.mkdir(parents=True, exist_ok=True)
    draw_all(Source(given.url, now - given.minutes * 60, now), given.folder)
    return 0


def draw_all(source: Source, folder: Path) -> None:
    """One PNG for each board."""
    for board in BOARDS:
        save_small(draw_board(board, source), folder / f"{board.uid}.png")


def save_small(figure: Figure, path: Path) -> None:
    """Write a picture with a palette, which takes a third of the bytes of full colours."""
    whole = io.BytesIO()
    figure.savefig(whole, format="png")
    with Image.open(whole) as picture:
        picture.convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
