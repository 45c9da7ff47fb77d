"""What a dashboard consists of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PanelKind(StrEnum):
    """How a panel shows its queries."""

    LINES = "lines"
    STACKED = "stacked"
    NUMBER = "number"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of a panel.

    Attributes:
        expr: PromQL, with the variables ``$model``, ``$instance`` and ``$__rate_interval``.
        legend: with labels in double braces.
        exemplars: whether to mark exemplars, which lead to traces.
    """

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture.

    Attributes:
        title: unique on its board.
        asks: the question that it answers, for the description.
        unit: Grafana's id of the unit: ``s``, ``bytes``, ``percentunit``, ``short``, ``reqps`` ...
        queries: what is drawn.
        kind: how it is drawn.
        width: of 24 columns.
        height: of a grid of some 30 pixels.
        only_after: when there can be no data before something happened: what that is. A test
            makes it happen.
        top: end of the axis; None for as high as the data.
    """

    title: str
    asks: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: PanelKind = PanelKind.LINES
    width: int = 8
    height: int = 8
    only_after: str = ""
    top: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard.

    Attributes:
        uid: Grafana's id, and the name of the file.
        title: as listed.
        about: one sentence.
        rows: top to bottom.
    """

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All panels, in reading order."""
        return tuple(panel for row in self.rows for panel in row.panels)
