"""Renders boards as the JSON that Grafana imports, with its own SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from boards.panels import Board, Panel, PanelKind, Query

TAG: Final = "smallmind"
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_ALL: Final = VariableOption(text="All", value="$__all", selected=True)


def render_board(board: Board) -> str:
    """The dashboard as Grafana's JSON."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags([TAG])
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("10s")
        .timezone("browser")
        .link(
            dashboard.DashboardLink("smallmind")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(as_dropdown=True)
            .include_vars(include_vars=True)
            .keep_time(keep_time=True)
        )
        .variables(
            [
                dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
                _variable("model", "smallmind_generated_tokens_total"),
                _variable("instance", "smallmind_telemetry_processes"),
            ]
        )
    )
    number = 0
    for row in board.rows:
        number += 1
        builder.with_row(dashboard.Row(row.title).id(number))
        for panel in row.panels:
            number += 1
            builder.with_panel(_panel(panel).id(number))
    return json.dumps(builder.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _variable(name: str, series: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({series}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(_ALL)
    )


def _panel(panel: Panel) -> Any:
    """The builder of a panel; its kinds share no type in the SDK that has these methods."""
    build: dict[PanelKind, Callable[[], Any]] = {
        PanelKind.LINES: _lines,
        PanelKind.STACKED: _stacked,
        PanelKind.NUMBER: _number,
        PanelKind.TABLE: _table,
    }
    only = f"\n\nHas data only after {panel.only_after}." if panel.only_after else ""
    made = (
        build[panel.kind]()
        .title(panel.title)
        .description(panel.asks + only)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(panel.width)
        .height(panel.height)
    )
    if panel.kind is not PanelKind.TABLE:
        made.min(0.0)
    if panel.top is not None:
        made.max(panel.top)
    for index, query in enumerate(panel.queries):
        made.with_target(_target(query, chr(ord("A") + index), panel.kind))
    return made


def _target(query: Query, ref: str, kind: PanelKind) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(ref).datasource(SOURCE)
    if query.legend:
        target.legend_format(query.legend)
    if kind is PanelKind.TABLE:
        return target.instant().format(PromQueryFormat.TABLE)
    target.range()
    return target.exemplar(exemplar=True) if query.exemplars else target


def _lines() -> timeseries.Panel:
    return (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(8)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )


def _stacked() -> timeseries.Panel:
    stacking = common.StackingConfig().mode(StackingMode.NORMAL)
    return _lines().fill_opacity(40).stacking(stacking)


def _number() -> stat.Panel:
    return stat.Panel().reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))


def _table() -> table.Panel:
    hidden = dict.fromkeys(("Time", "__name__", "job"), True)
    organize = DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
    return table.Panel().with_transformation(organize)
