"""A real Prometheus scrapes a process while the real model generates in it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import smallmind
from prometheus_process import PrometheusServer, eventually, find_binary, running_prometheus
from smallmind import CancellationToken, GenerationResult, StopReason
from smallmind_exporters.prometheus import PrometheusExporter

pytestmark = [pytest.mark.model, pytest.mark.prometheus]

OPTIONS = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 12}


@dataclass(frozen=True)
class Observed:
    prometheus: PrometheusServer
    exporter: PrometheusExporter
    results: list[GenerationResult]
    session_results: list[GenerationResult]


@pytest.fixture(scope="module")
def observed(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        PrometheusExporter() as exporter,
        exporter.start_http_server() as server,
        running_prometheus(f"{server.addr}:{server.port}", folder) as prometheus,
        smallmind.load(smollm2_path, exporters=[exporter], name="smollm2") as engine,
    ):
        eventually(lambda: prometheus.query("smallmind_model_info"), bool)
        results = [engine.generate(f"Number {n} is", **OPTIONS) for n in range(3)]
        with engine.stream("Once upon a time", **OPTIONS) as stream:
            for _ in stream:  # the scrapes see tokens while they are generated
                prometheus.query("smallmind_generated_tokens_total")
        token = CancellationToken()
        cut = engine.generate(
            "Once", cancellation=token, on_token=lambda _: token.cancel(), **OPTIONS
        )
        assert stream.result is not None
        results += [stream.result, cut]
        with engine.session() as session:
            turns = [session.generate(text, **OPTIONS) for text in ("My name is", " and I am")]
        done = len(results) + len(turns)
        eventually(
            lambda: prometheus.query("sum(smallmind_requests_total)"),
            lambda seen: seen.get(()) == done,
        )
        yield Observed(prometheus, exporter, results, turns)


def test_requests_are_counted_by_their_reason(observed: Observed) -> None:
    counted = observed.prometheus.query("sum by (reason) (smallmind_requests_total) > 0")
    everything = [*observed.results, *observed.session_results]
    reasons = [result.stop_reason for result in everything]
    assert counted == {(("reason", r.value),): float(reasons.count(r)) for r in set(reasons)}
    assert StopReason.CANCELLED_BY_CALLER in reasons


def test_tokens_are_those_of_the_results(observed: Observed) -> None:
    everything = [*observed.results, *observed.session_results]
    counted = observed.prometheus.query("sum(smallmind_generated_tokens_total)")
    assert counted[()] == sum(result.usage.completion_tokens for result in everything)
    sources = observed.prometheus.query("sum by (source) (smallmind_prompt_tokens_total)")
    cached = sum(result.usage.cached_tokens for result in everything)
    prompts = sum(result.usage.prompt_tokens for result in everything)
    assert sources[(("source", "cached"),)] == cached > 0
    assert sources[(("source", "computed"),)] == prompts - cached


def test_quantiles_can_be_asked_for(observed: Observed) -> None:
    expression = (
        "histogram_quantile(0.5, sum by (le) (smallmind_time_to_first_token_seconds_bucket))"
    )
    (median,) = observed.prometheus.query(expression).values()
    assert 0.0 < median < 60.0


def test_the_models_facts_are_labels_of_its_info(observed: Observed) -> None:
    ((labels, value),) = observed.prometheus.query("smallmind_model_info").items()
    assert value == 1.0
    known = dict(labels)
    assert known["model"] == "smollm2"
    assert known["architecture"] == "llama"


def test_promtool_finds_nothing_to_complain_about(observed: Observed) -> None:
    checked = subprocess.run(
        [find_binary("promtool"), "check", "metrics"],
        input=observed.exporter.render(),
        capture_output=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, b"")
