"""Every query of every panel and rule, run by a real Prometheus over real engines."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from alertmanager_process import Webhook, listening_webhook, running_alertmanager
from boards import ALERTS, BOARDS, RECORDINGS
from draw import Source, draw_board
from operating_workload import (
    Service,
    do_everything,
    good_requests,
    running_service,
    shown_metrics,
)
from prometheus_process import PrometheusServer, eventually, running_prometheus

pytestmark = pytest.mark.prometheus

ROOT = Path(__file__).parents[2]
RULES = ROOT / "dashboards" / "prometheus" / "rules.yml"
OPERATE = ROOT / "docs" / "operate.md"

QUERIES = [
    pytest.param(panel, query.expr, id=f"{board.uid}-{panel.title}-{number}")
    for board in BOARDS
    for panel in board.panels
    for number, query in enumerate(panel.queries)
]
LOOKED_AT = sorted({expr for alert in ALERTS for expr in alert.looks_at})
# What the workload provokes; the others need hours of data or a service that is gone, and are
# provoked with series of their own in test_dashboard_rules.py.
PROVOKED = {
    "SmallMindQueueFull",
    "SmallMindMemoryBudgetExceeded",
    "SmallMindMemoryBudgetShort",
    "SmallMindRequestsFail",
    "SmallMindModelGivesNoNumbers",
    "SmallMindExporterFails",
    "SmallMindEventsDropped",
    "SmallMindInvalidValues",
}
AT_ONCE = PROVOKED - {"SmallMindQueueFull", "SmallMindRequestsFail"}  # those wait a minute first


@dataclass(frozen=True)
class Observed:
    prometheus: PrometheusServer
    service: Service
    webhook: Webhook
    began_s: float


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("dashboards")
    with ExitStack() as stack:
        webhook, address = stack.enter_context(listening_webhook())
        alertmanager = stack.enter_context(running_alertmanager(folder, address))
        shown = stack.enter_context(shown_metrics())
        prometheus = stack.enter_context(
            running_prometheus(shown.metrics, folder, rules=RULES, alertmanager=alertmanager)
        )
        service = stack.enter_context(running_service(folder, shown))
        eventually(
            lambda: prometheus.query("count by (model) (smallmind_model_info)"),
            lambda seen: {dict(labels)["model"] for labels in seen} == service.models,
        )
        began_s = time.time()
        do_everything(service, folder)
        assert service.exporter.registry.get_sample_value("smallmind_telemetry_processes") == 1
        _await_scrape(prometheus, service)
        # A series that appears with its first token may be seen first when the work is over, and
        # what does not grow has no rate.
        good_requests(service.busy)
        _await_scrape(prometheus, service)
        last = RECORDINGS[-1].record
        eventually(lambda: prometheus.query(last), bool)
        yield Observed(prometheus, service, webhook, began_s)


def _await_scrape(prometheus: PrometheusServer, service: Service) -> None:
    """Return once Prometheus has seen every request that has ended."""
    requests = sum(
        sample.value
        for family in service.exporter.registry.collect()
        for sample in family.samples
        if sample.name == "smallmind_requests_total"
    )
    eventually(
        lambda: prometheus.query("sum(smallmind_requests_total)"),
        lambda seen: seen.get(()) == requests,
    )


def as_asked(expression: str) -> str:
    """An expression of a panel as Grafana sends it, for all models and instances."""
    for variable, value in (
        ("$__rate_interval", "5m"),
        ("$__range", "5m"),
        ("$model", ".*"),
        ("$instance", ".*"),
    ):
        expression = expression.replace(variable, value)
    return expression


@pytest.mark.parametrize(("panel", "expression"), QUERIES)
def test_every_query_of_every_panel_gives_numbers(observed, panel, expression):
    def finite():
        answer = observed.prometheus.query(as_asked(expression))
        return {labels: value for labels, value in answer.items() if math.isfinite(value)}

    # A scrape that fails on a busy machine makes everything stale until the next one.
    assert eventually(finite, bool, 5.0), f"{panel.title} shows nothing"


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.record)
def test_every_recording_records(observed, recording):
    answer = eventually(lambda: observed.prometheus.query(recording.record), bool)
    assert all(0.0 <= value <= 1.0 for value in answer.values()), answer


@pytest.mark.parametrize("expression", LOOKED_AT)
def test_what_alerts_look_at_is_there(observed, expression):
    assert eventually(lambda: observed.prometheus.query(expression), bool, 5.0)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_is_evaluated_and_what_was_provoked_is_raised(observed, alert):
    def rule():
        groups = observed.prometheus.api("rules", type="alert")["groups"]
        (found,) = (r for group in groups for r in group["rules"] if r["name"] == alert.name)
        return found

    evaluated = eventually(rule, lambda found: found["health"] == "ok")
    assert not evaluated.get("lastError")
    if alert.name in PROVOKED:
        states = {"firing"} if alert.name in AT_ONCE else {"pending", "firing"}
        eventually(rule, lambda found: found["state"] in states)


def test_alerts_arrive_through_a_real_alertmanager(observed):
    received = observed.webhook.received
    eventually(lambda: set(received), lambda names: names >= AT_ONCE)
    assert (
        "The memory budget refuses kv_cache of strict." in received["SmallMindMemoryBudgetExceeded"]
    )
    assert any("broken" in summary for summary in received["SmallMindExporterFails"])
    assert any("slow" in summary for summary in received["SmallMindEventsDropped"])


def test_quantiles_are_of_this_workload(observed):
    query = next(
        query.expr
        for board in BOARDS
        for panel in board.panels
        if panel.title == "First token, p95"
        for query in panel.queries
    )
    (seconds,) = eventually(lambda: observed.prometheus.query(as_asked(query)), bool, 5.0).values()
    assert 0.0 < seconds < 60.0


def test_every_panel_can_be_drawn(observed):
    source = Source(observed.prometheus.url, observed.began_s - 30, time.time())
    for board in BOARDS:
        figure = draw_board(board, source)
        assert [axes.get_title(loc="left") for axes in figure.axes] == [
            panel.title for panel in board.panels
        ]
        empty = [
            axes for axes in figure.axes for text in axes.texts if text.get_text() == "no data"
        ]
        assert empty == []


OPERATING_QUERIES = (
    re.findall(r"```promql\n(.*?)```", OPERATE.read_text(encoding="utf-8"), re.DOTALL)
    if OPERATE.exists()
    else []
)


@pytest.mark.parametrize("query", OPERATING_QUERIES, ids=range(len(OPERATING_QUERIES)))
def test_every_query_of_the_operators_page_gives_numbers(observed, query):
    assert eventually(lambda: observed.prometheus.query(query), bool, 5.0)
