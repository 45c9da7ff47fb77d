"""A real Prometheus scrapes a generating process, and answers what the events said."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from prometheus_process import (
    PrometheusServer,
    eventually,
    find_binary,
    running_prometheus,
)
from smallmind_engine.telemetry import (
    EventBus,
    InferenceStopped,
    PrefillEnded,
    StopReason,
    TokenGenerated,
)
from smallmind_exporters.memory import InMemoryExporter
from smallmind_exporters.prometheus import PrometheusExporter
from telemetry_events import (
    MODEL,
    TRACE_ID,
    correlation,
    every_kind,
    headers,
    model_load,
    publish,
    rejected_request,
    request,
)

pytestmark = pytest.mark.prometheus

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "prometheus.md"
HOW_TO_QUERIES = re.findall(r"```promql\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.DOTALL)

Generate = Callable[[EventBus], None]


@dataclass(frozen=True, slots=True)
class Observed:
    """What was generated, as two independent witnesses tell it."""

    prometheus: PrometheusServer
    memory: InMemoryExporter


def load_a_model(bus: EventBus) -> None:
    publish(bus, model_load, correlation("load-1"))


def run_requests(bus: EventBus) -> None:
    for number in range(40):
        reason = StopReason.CANCELLED_BY_CALLER if number % 8 == 7 else StopReason.MAX_TOKENS
        publish(bus, request, correlation(f"req-{number}"), tokens=number % 5 + 1, reason=reason)
    publish(bus, rejected_request, correlation("req-rejected"))


def observe(folder: Path, load: Generate, generate: Generate) -> Iterator[Observed]:
    """Let Prometheus see the model before and after the requests of ``generate``.

    Args:
        folder: for Prometheus to work in.
        load: publishes what loading a model does.
        generate: publishes what requests do; returns when all of them ended.
    """
    bus = EventBus()
    memory = InMemoryExporter()
    with (
        PrometheusExporter(health=bus.health) as exporter,
        exporter.start_http_server() as metrics,
        bus.subscribe(exporter),
        bus.subscribe(memory),
        running_prometheus(f"{metrics.addr}:{metrics.port}", folder) as prometheus,
    ):
        load(bus)
        eventually(lambda: prometheus.query("smallmind_generated_tokens_total"), bool)
        generate(bus)
        tokens = len(memory.of(TokenGenerated))
        eventually(
            lambda: prometheus.query("sum(smallmind_generated_tokens_total)"),
            lambda seen: seen.get(()) == tokens,
        )
        yield Observed(prometheus, memory)


@pytest.fixture(scope="module")
def observed(tmp_path_factory) -> Iterator[Observed]:
    yield from observe(tmp_path_factory.mktemp("prometheus"), load_a_model, run_requests)


def test_scrapes_succeed(observed):
    (target,) = observed.prometheus.api("targets", state="active")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


def test_requests_by_status_and_reason_are_those_in_memory(observed):
    counted = observed.prometheus.query("sum by (status, reason) (smallmind_requests_total) > 0")
    stops = Counter(
        (("reason", stop.reason.value), ("status", stop.status.value))
        for stop in observed.memory.of(InferenceStopped)
    )
    assert counted == stops


def test_prompt_tokens_by_source_are_those_in_memory(observed):
    counted = observed.prometheus.query("sum by (source) (smallmind_prompt_tokens_total)")
    prefills = observed.memory.of(PrefillEnded)
    assert counted == {
        (("source", "computed"),): sum(prefill.computed_tokens for prefill in prefills),
        (("source", "cached"),): sum(prefill.cached_tokens for prefill in prefills),
    }


def test_the_phases_add_up_to_the_time_of_the_requests(observed):
    phases = observed.prometheus.query("sum(smallmind_request_phase_seconds_total)")
    whole = observed.prometheus.query("sum(smallmind_request_duration_seconds_sum)")
    booked = sum(stop.duration_s for stop in observed.memory.of(InferenceStopped))
    assert phases[()] == pytest.approx(booked, rel=1e-9)
    assert whole[()] == pytest.approx(booked, rel=1e-9)


@pytest.mark.parametrize("quantile", [0.5, 0.99])
def test_quantiles_of_the_first_token_lie_in_the_bucket_of_the_true_ones(observed, quantile):
    shown = observed.prometheus.query(
        f"histogram_quantile({quantile},"
        " sum by (le) (smallmind_time_to_first_token_seconds_bucket))"
    )[()]
    times = sorted(
        stop.time_to_first_token_s
        for stop in observed.memory.of(InferenceStopped)
        if stop.status == "completed" and stop.time_to_first_token_s is not None
    )
    true = times[int(quantile * (len(times) - 1))]
    bounds = [
        float(dict(labels)["le"])
        for labels in observed.prometheus.query(
            "sum by (le) (smallmind_time_to_first_token_seconds_bucket)"
        )
    ]
    below = max((bound for bound in bounds if bound < true), default=0.0)
    above = min(bound for bound in bounds if bound >= true)
    assert below < shown <= above


def test_the_first_increase_is_seen_because_series_begin_at_zero(observed):
    tokens = len(observed.memory.of(TokenGenerated))
    risen = observed.prometheus.query(
        "max_over_time(smallmind_generated_tokens_total[10m])"
        " - min_over_time(smallmind_generated_tokens_total[10m])"
    )
    assert list(risen.values()) == [tokens]


def test_the_model_is_described(observed):
    (labels,) = observed.prometheus.query("smallmind_model_info")
    assert {"model", "architecture", "quantization", "backend"} <= set(dict(labels))


def test_nothing_was_lost_on_the_way(observed):
    assert set(observed.prometheus.query("smallmind_telemetry_events_dropped_total").values()) == {
        0.0
    }
    assert observed.prometheus.query("smallmind_telemetry_invalid_values_total") == {(): 0.0}
    assert observed.prometheus.query("sum(smallmind_requests_in_flight)") == {(): 0.0}


def test_an_exemplar_leads_to_the_trace_of_a_request(observed):
    series = eventually(
        lambda: observed.prometheus.api(
            "query_exemplars",
            query="smallmind_request_duration_seconds_bucket",
            start="0",
            end="4000000000",
        ),
        bool,
    )
    traces = {exemplar["labels"]["trace_id"] for one in series for exemplar in one["exemplars"]}
    assert traces <= {stop.correlation.trace_id for stop in observed.memory.of(InferenceStopped)}
    assert traces


def test_help_and_type_reach_the_server(observed):
    metadata = observed.prometheus.api("metadata", metric="smallmind_time_to_first_token_seconds")
    (entry,) = metadata["smallmind_time_to_first_token_seconds"]
    assert entry["type"] == "histogram"
    assert entry["help"].startswith("Time from submission to the first token")


@pytest.mark.parametrize("query", HOW_TO_QUERIES, ids=lambda query: query.split("(")[0].strip())
def test_every_query_of_the_how_to_is_understood(observed, query):
    assert observed.prometheus.api("query", query=query)["resultType"] == "vector"


@pytest.mark.parametrize("traffic", [False, True], ids=["idle", "busy"])
def test_promtool_finds_nothing_to_mend(traffic):
    with PrometheusExporter(health=EventBus().health) as exporter:
        for event in every_kind(headers()) if traffic else ():
            exporter.export(event)
        exposition = exporter.render()
    done = subprocess.run(
        [find_binary("promtool"), "check", "metrics"],
        input=exposition,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (f'model="{MODEL}"'.encode() in exposition) == traffic
    assert TRACE_ID.encode() not in exposition
