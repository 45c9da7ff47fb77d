"""Traps that other runtimes fell into with Prometheus, each held against real engines.

A list of them with the tests that hold for each stands in docs/how-to/prometheus.md; those that
need no engine are in tests/unit/exporters.
"""

from __future__ import annotations

import gc
import math
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from engines import tiny_engine
from smallmind_engine.telemetry import ALL_KINDS, Event, FlushResult
from smallmind_exporters.metrics import FAMILIES, MetricKind
from smallmind_exporters.prometheus import PrometheusExporter
from telemetry_events import correlation, headers, request

OPTIONS = {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True}


def shown(exporter, name, /, **labels):
    return exporter.registry.get_sample_value("smallmind_" + name, labels)


def of_model(exporter, name, **labels):
    return shown(exporter, name, model="tiny", **labels)


class Raising:
    """An exporter that fails at every event."""

    name = "raising"
    interests = ALL_KINDS
    inline = True

    def export(self, event: Event, /) -> None:
        raise RuntimeError("this exporter never works")

    def flush(self, timeout_s: float) -> FlushResult:
        return FlushResult()

    def close(self) -> None: ...


def test_two_engines_in_one_process_share_a_registry_and_the_foreign_metrics_stay(tmp_path):
    registry = CollectorRegistry()
    Counter("host_requests", "The host's own.", registry=registry).inc(3)
    exporters = [PrometheusExporter(registry=registry) for _ in range(2)]
    engines = [tiny_engine(tmp_path, exporters=[each], name="tiny") for each in exporters]
    for engine in engines:
        engine.generate("a", **OPTIONS)
        engine.close()
    for each in exporters:
        assert of_model(each, "generated_tokens_total") == 12
        each.close()
    assert registry.get_sample_value("host_requests_total") == 3
    assert registry.get_sample_value("smallmind_generated_tokens_total", {"model": "tiny"}) == 12


def test_two_engines_made_by_name_do_not_clash(tmp_path):
    with (
        tiny_engine(tmp_path, exporters=["prometheus"], name="a") as one,
        tiny_engine(tmp_path, exporters=["prometheus"], name="b") as other,
    ):
        one.generate("a", **OPTIONS)
        texts = [engine.exporter("prometheus").render().decode() for engine in (one, other)]
    assert ['_tokens_total{model="a"}' in text for text in texts] == [True, False]


def test_an_abandoned_stream_leaves_nothing_in_flight(tmp_path):
    exporter = PrometheusExporter()
    with tiny_engine(tmp_path, exporters=[exporter], name="tiny") as engine:
        stream = engine.stream("a", max_tokens=50, ignore_eos=True)
        next(iter(stream))
        assert of_model(exporter, "requests_in_flight") == 1
        del stream
        gc.collect()
        assert of_model(exporter, "requests_in_flight") == 0
        assert of_model(exporter, "queue_depth") == 0
        ended = {
            one.labels["reason"]: one.value
            for family in parse_text(exporter.render().decode())
            for one in family.samples
            if one.name == "smallmind_requests_total" and one.value
        }
    assert ended == {"CANCELLED_BY_CALLER": 1}


def test_two_scrapers_see_the_same_numbers(tmp_path):
    exporter = PrometheusExporter()
    with tiny_engine(tmp_path, exporters=[exporter], name="tiny") as engine:
        engine.generate("a", **OPTIONS)
        first, second, openmetrics = (
            exporter.render(),
            exporter.render(),
            exporter.render(openmetrics=True),
        )
        assert first == second == exporter.render()
    assert len(list(parse_openmetrics(openmetrics.decode()))) == len(FAMILIES)


def test_an_exporter_that_fails_is_shown_and_changes_no_token(tmp_path):
    with tiny_engine(tmp_path) as engine:
        alone = engine.generate("a", **OPTIONS)
    exporter = PrometheusExporter()
    with tiny_engine(tmp_path, exporters=[exporter, Raising()], name="tiny") as engine:
        beside = engine.generate("a", **OPTIONS)
        errors = shown(exporter, "telemetry_exporter_errors_total", exporter="raising")
        detached = shown(exporter, "degraded_total", reason="EXPORTER_DETACHED")
    assert beside.token_ids == alone.token_ids
    assert (errors, detached) == (5, 1)


def test_no_text_of_prompts_or_completions_is_exposed(tmp_path):
    exporter = PrometheusExporter()
    with tiny_engine(tmp_path, exporters=[exporter], name="tiny") as engine:
        result = engine.generate("zebracrossing", request_id="req-secret", **OPTIONS)
    text = exporter.render(openmetrics=True).decode()
    assert "zebracrossing" not in text
    assert "req-secret" not in text
    assert len(result.text) < 3 or result.text not in text


def test_an_exemplar_that_is_too_long_is_left_out_and_the_rest_stays_valid():
    exporter = PrometheusExporter()
    for ids in (replace(correlation("a"), trace_id="f" * 500), correlation("b")):
        for event in request(headers(ids)):
            exporter.export(event)
    exemplars = [
        one.exemplar
        for family in parse_openmetrics(exporter.render(openmetrics=True).decode())
        for one in family.samples
        if one.exemplar
    ]
    exporter.close()
    assert {len(exemplar.labels["trace_id"]) for exemplar in exemplars} <= {32}


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_value_that_is_no_number_poisons_no_sum_and_is_counted(value):
    exporter = PrometheusExporter()
    for event in request(headers()):
        odd = hasattr(event, "duration_s")
        exporter.export(event._replace(duration_s=value) if odd else event)
    sums = [
        one.value
        for family in parse_text(exporter.render().decode())
        for one in family.samples
        if one.name.endswith(("_sum", "_total"))
    ]
    assert all(math.isfinite(total) and total >= 0 for total in sums)
    assert shown(exporter, "telemetry_invalid_values_total") >= 2
    exporter.close()


def test_labels_do_not_explode():
    exporter = PrometheusExporter()
    for number in range(500):
        for event in request(headers(), model=f"model-{number}", operation=f"op-{number}"):
            exporter.export(event)
    text = exporter.render().decode()
    exporter.close()
    models = {
        one.labels["model"]
        for family in parse_text(text)
        for one in family.samples
        if "model" in one.labels
    }
    assert len(models) == 51
    assert "_other" in models


def test_no_histogram_has_more_than_twenty_buckets():
    histograms = [family for family in FAMILIES if family.kind is MetricKind.HISTOGRAM]
    assert histograms
    assert max(len(family.buckets) for family in histograms) <= 20
