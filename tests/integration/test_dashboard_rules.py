"""Every alert, fired and not fired over series made for it, by ``promtool test rules``."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from boards import ALERTS, Alert
from prometheus_process import find_binary

pytestmark = pytest.mark.prometheus

RULES = Path(__file__).parents[2] / "dashboards" / "prometheus" / "rules.yml"
BY_NAME = {alert.name: alert for alert in ALERTS}
M = 'model="m"'
PRESENT = ("smallmind_telemetry_processes", "1x2000")


@dataclass(frozen=True)
class Case:
    """Series as promtool writes them, and what they lead to.

    ``labels`` are those of the alert besides severity; ``value`` is how its summary shows it.
    """

    alert: str
    series: tuple[tuple[str, str], ...]
    after: str = "8m"
    labels: tuple[tuple[str, str], ...] = (("model", "m"),)
    value: str = ""


def latency(family: str, boundary: str, in_time: int) -> tuple[tuple[str, str], ...]:
    """A hundred a step, of which so many are in time."""
    return (
        (f'smallmind_{family}_bucket{{{M},le="{boundary}"}}', f"0+{in_time}x2000"),
        (f"smallmind_{family}_count{{{M}}}", "0+100x2000"),
    )


def phases(phase: str, share: float) -> tuple[tuple[str, str], ...]:
    return (
        (f'smallmind_request_phase_seconds_total{{{M},phase="{phase}"}}', f"0+{share}x20"),
        (f'smallmind_request_phase_seconds_total{{{M},phase="decode"}}', f"0+{1 - share}x20"),
    )


def jump(series: str) -> tuple[tuple[str, str], ...]:
    """A counter that grows once, between the sixth and the seventh minute."""
    return ((series, "0x6 20x20"),)


TTFT = "time_to_first_token_seconds"
GAP = "inter_token_seconds"
QUICK = (
    Case("SmallMindFirstTokenLateFast", latency(TTFT, "2.5", 50), after="70m", value="50%"),
    Case("SmallMindTokensLateFast", latency(GAP, "0.2", 75), after="70m", value="25%"),
    Case(
        "SmallMindQueueFull",
        (
            (
                f'smallmind_rejected_total{{{M},reason="BACKPRESSURE_QUEUE_FULL"}}',
                "0+5x20",
            ),
        ),
    ),
    Case("SmallMindQueueSaturated", phases("queue", 0.75), after="12m", value="75%"),
    Case(
        "SmallMindMemoryBudgetExceeded",
        jump(
            f'smallmind_memory_budget_events_total{{{M},category="kv_cache",'
            'reason="MEMORY_BUDGET_EXCEEDED"}'
        ),
        labels=(("category", "kv_cache"), ("model", "m")),
    ),
    Case(
        "SmallMindMemoryBudgetShort",
        jump(
            f'smallmind_memory_budget_events_total{{{M},category="kv_cache",'
            'reason="MEMORY_BUDGET_SOFT_LIMIT"}'
        ),
        labels=(("category", "kv_cache"), ("model", "m")),
    ),
    Case(
        "SmallMindCacheTooSmall",
        ((f'smallmind_kv_cache_evictions_total{{{M},reason="KV_CACHE_EVICTION"}}', "0+9x20"),),
        after="12m",
    ),
    Case(
        "SmallMindRequestsFail",
        (
            (f'smallmind_requests_total{{{M},status="failed"}}', "0+5x20"),
            (f'smallmind_requests_total{{{M},status="completed"}}', "0+95x20"),
        ),
        value="5%",
    ),
    Case(
        "SmallMindModelGivesNoNumbers",
        jump(f'smallmind_request_errors_total{{{M},error_type="InferenceError"}}'),
    ),
    Case(
        "SmallMindExporterFails",
        jump('smallmind_telemetry_exporter_errors_total{exporter="otlp"}'),
        labels=(("exporter", "otlp"),),
    ),
    Case(
        "SmallMindEventsDropped",
        jump('smallmind_telemetry_events_dropped_total{exporter="otlp"}'),
        labels=(("exporter", "otlp"),),
    ),
    Case("SmallMindInvalidValues", jump("smallmind_telemetry_invalid_values_total"), labels=()),
    Case("SmallMindTelemetryCostly", phases("telemetry", 0.1), after="12m", value="10%"),
    Case("SmallMindAbsent", (), labels=()),
)
# These look at days, so their series have a point every five minutes.
SLOW = (
    Case("SmallMindFirstTokenLateSlow", latency(TTFT, "2.5", 95), after="27h", value="5%"),
    Case("SmallMindTokensLateSlow", latency(GAP, "0.2", 96), after="27h", value="4%"),
)
# An exporter that had failed before the first scrape.
BORN_FAILING = Case(
    "SmallMindExporterFails",
    (('smallmind_telemetry_exporter_errors_total{exporter="otlp"}', "_x6 5x20"),),
    labels=(("exporter", "otlp"),),
)
HEALTHY = (
    *latency(TTFT, "2.5", 100),
    *latency(GAP, "0.2", 100),
    *phases("prefill", 0.5),
    (f'smallmind_requests_total{{{M},status="completed"}}', "0+10x100"),
    (f'smallmind_requests_total{{{M},status="failed"}}', "0x100"),
    (f'smallmind_request_errors_total{{{M},error_type="InferenceError"}}', "0x100"),
    (f'smallmind_rejected_total{{{M},reason="BACKPRESSURE_QUEUE_FULL"}}', "0x100"),
    ('smallmind_telemetry_exporter_errors_total{exporter="otlp"}', "0x100"),
    ('smallmind_telemetry_events_dropped_total{exporter="otlp"}', "0x100"),
    ("smallmind_telemetry_invalid_values_total", "0x100"),
    PRESENT,
)


def expected(alert: Alert, case: Case) -> dict[str, object]:
    labels = dict(case.labels)
    summary = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: labels[m[1]], alert.summary)
    summary = re.sub(r"\{\{ \$value [^}]*\}\}", case.value, summary)
    return {
        "exp_labels": {**labels, "severity": alert.severity.value},
        "exp_annotations": {
            "summary": summary,
            "description": alert.remedy,
            "dashboard": f"/d/{alert.board}",
        },
    }


def fires(case: Case, interval: str) -> dict[str, object]:
    """A test of promtool: before anything happens it is silent, later it fires as it should."""
    series = case.series if case.alert == "SmallMindAbsent" else (*case.series, PRESENT)
    alert = BY_NAME[case.alert]
    return {
        "name": case.alert,
        "interval": interval,
        "input_series": [{"series": name, "values": values} for name, values in series],
        "alert_rule_test": [
            {"eval_time": "0m", "alertname": alert.name, "exp_alerts": []},
            {
                "eval_time": case.after,
                "alertname": alert.name,
                "exp_alerts": [expected(alert, case)],
            },
        ],
    }


def run_promtool(folder: Path, tests: list[dict[str, object]], evaluation: str) -> None:
    # promtool reads YAML, which JSON is a part of.
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": evaluation,
        # Otherwise it goes by chance, and alerts may see recordings of an evaluation before only.
        "group_eval_order": ["smallmind-recordings", "smallmind-alerts"],
        "tests": tests,
    }
    path = folder / "tests.yml"
    path.write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(
        [find_binary("promtool"), "test", "rules", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_well_formed():
    done = subprocess.run(
        [find_binary("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_it():
    assert {case.alert for case in (*QUICK, *SLOW)} == set(BY_NAME)


def test_alerts_fire_with_what_they_say(tmp_path):
    run_promtool(tmp_path, [fires(case, "1m") for case in (*QUICK, BORN_FAILING)], "1m")


def test_slow_burns_fire_after_a_day(tmp_path):
    run_promtool(tmp_path, [fires(case, "5m") for case in SLOW], "10m")


def test_a_healthy_service_raises_nothing(tmp_path):
    run_promtool(
        tmp_path,
        [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in HEALTHY],
                "alert_rule_test": [
                    {"eval_time": "90m", "alertname": name, "exp_alerts": []} for name in BY_NAME
                ],
            }
        ],
        "1m",
    )


def test_a_slow_burn_does_not_wake_anyone(tmp_path):
    late = fires(SLOW[0], "5m")
    silent = {"eval_time": "27h", "alertname": "SmallMindFirstTokenLateFast", "exp_alerts": []}
    run_promtool(tmp_path, [{**late, "alert_rule_test": [silent]}], "10m")
