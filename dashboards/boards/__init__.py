"""The Grafana dashboards and Prometheus rules, as tables over the table of metrics."""

from boards.panels import Board, Panel, PanelKind, Query, Row
from boards.rules import ALERTS, RECORDINGS, Alert, Recording, Severity
from boards.table import BOARDS

__all__ = [
    "ALERTS",
    "BOARDS",
    "RECORDINGS",
    "Alert",
    "Board",
    "Panel",
    "PanelKind",
    "Query",
    "Recording",
    "Row",
    "Severity",
]
