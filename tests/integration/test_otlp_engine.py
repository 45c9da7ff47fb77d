"""The OTLP and structlog exporters on a running engine: same tokens, same totals, no waiting."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import structlog

from engines import tiny_engine
from otlp_receiver import attributes, http_receiver, points, total
from smallmind import CancellationToken, SmallMindError, StopReason
from smallmind_engine.telemetry import InferenceStopped, TokenGenerated
from smallmind_exporters.memory import InMemoryExporter
from smallmind_exporters.otlp import OtlpExporter, TailExpansion
from smallmind_exporters.prometheus import PrometheusExporter
from smallmind_exporters.structured import StructlogExporter

OPTIONS = {"temperature": 0.8, "seed": 7, "ignore_eos": True, "max_tokens": 12}
NOWHERE = "http://127.0.0.1:9"


class Raising:
    """A structlog logger whose every line fails."""

    def info(self, *_, **__):
        raise RuntimeError

    warning = error = debug = info


def tokens_with(folder: Path, *exporters) -> list[tuple[int, ...]]:
    with tiny_engine(folder, exporters=exporters) as engine:
        results = [engine.generate(f"Prompt {n}", **OPTIONS).token_ids for n in range(6)]
        with engine.stream("Stream", **OPTIONS) as stream:
            for _ in stream:
                pass
        results.append(stream.result.token_ids)
        engine.flush(0.1)
    return results


@pytest.mark.parametrize("behaviour", ["accept", "down", "refuse", "hang", "garbage"])
def test_tokens_are_the_same_whatever_the_receiver_does(tmp_path, behaviour):
    expected = tokens_with(tmp_path)
    receiver = nullcontext() if behaviour == "down" else http_receiver()
    with receiver as received:
        endpoint = NOWHERE if received is None else received.endpoint
        if received is not None:
            received.behaviour = behaviour
        exporter = OtlpExporter(
            endpoint=endpoint, timeout_s=0.3, detail="token", tail=TailExpansion(slow_s=0.0)
        )
        found = tokens_with(tmp_path, exporter, StructlogExporter(Raising()))
        exporter.close()
    assert found == expected


def test_a_receiver_that_hangs_costs_no_request_its_time(tmp_path):
    """The bound: a request is never held up by longer than it takes to queue its events."""
    with http_receiver() as received, OtlpExporter(endpoint=received.endpoint) as exporter:
        received.behaviour = "hang"
        with tiny_engine(tmp_path, exporters=[exporter]) as engine:
            engine.generate("warm up", **OPTIONS)
            before = time.monotonic()
            for _ in range(20):
                engine.generate("Prompt", **OPTIONS)
            took_s = time.monotonic() - before
            received.release.set()
    assert took_s < 5.0  # one export would hang for ten seconds


def test_a_requests_span_tells_what_was_asked_and_carries_its_callers_tracestate(tmp_path):
    caller = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "congo=t61"}
    asked = {"temperature": 0.25, "top_p": 0.75, "top_k": 9, "seed": 11, "max_tokens": 3}
    with http_receiver() as received, OtlpExporter(endpoint=received.endpoint) as exporter:
        with tiny_engine(tmp_path, exporters=[exporter]) as engine:
            result = engine.generate("Prompt", **asked, **caller)
        assert exporter.flush(5.0).complete
    [span] = [s for s in received.spans if s.name.startswith("text_completion")]
    assert (span.trace_state, result.correlation.trace_state) == ("congo=t61", "congo=t61")
    assert span.parent_span_id.hex() == "cd" * 8
    told = attributes(span.attributes)
    assert {name: told[f"gen_ai.request.{name}"] for name in asked} == asked


@pytest.mark.parametrize("count", [120, pytest.param(1000, marks=pytest.mark.slow)])
def test_totals_of_all_exporters_agree_to_the_last_request(tmp_path, monkeypatch, count):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100000")
    lines: list[str] = []
    lock = threading.Lock()

    class Logger:
        def msg(self, text):
            with lock:
                lines.append(text)

        debug = info = warning = error = msg

    logger = structlog.wrap_logger(
        Logger(),
        processors=[structlog.processors.JSONRenderer()],
        wrapper_class=structlog.BoundLogger,
    )
    with (
        http_receiver() as received,
        InMemoryExporter(capacity=1_000_000) as memory,
        PrometheusExporter() as prometheus,
        OtlpExporter(endpoint=received.endpoint) as otlp,
        StructlogExporter(logger) as structured,
        tiny_engine(
            tmp_path,
            exporters=[memory, prometheus, otlp, structured],
            max_concurrent_requests=2,
            max_queue_depth=2,
        ) as engine,
    ):
        _mixed_requests(engine, count)
        answers = engine.flush(30.0)
        assert all(answer.complete for answer in answers.values()), answers
        text = prometheus.render().decode()
    stops = memory.of(InferenceStopped)
    assert len(stops) == count
    reasons = Counter(stop.reason for stop in stops)
    assert len(reasons) >= 4
    requests = [json.loads(line) for line in lines if json.loads(line)["event"] == "request"]
    spans = [s for s in received.spans if s.name.startswith(("text_completion", "chat"))]
    assert Counter(line["reason"] for line in requests) == reasons
    assert Counter(attributes(s.attributes)["smallmind.stop_reason"] for s in spans) == reasons
    for reason, number in reasons.items():
        counted = total(received.metrics["smallmind.requests"], smallmind__reason=reason)
        assert counted == number
        assert _sample(text, "smallmind_requests_total", f'reason="{reason}"') == number
    tokens = len(memory.of(TokenGenerated))
    assert total(received.metrics["smallmind.generated_tokens"]) == tokens
    assert sum(line["completion_tokens"] for line in requests) == tokens
    assert _sample(text, "smallmind_generated_tokens_total", "") == tokens
    durations = points(received.metrics["gen_ai.server.request.duration"])
    assert sum(durations.values()) == count


def _mixed_requests(engine, count: int) -> None:
    """Completed, cut short, cancelled, refused and failed requests, from several threads."""

    def some(first: int) -> None:
        for number in range(first, count, 4):
            with suppress(SmallMindError):
                _one_request(engine, number)

    threads = [threading.Thread(target=some, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _one_request(engine, number: int) -> None:
    prompt, most = f"Request {number}", 1 + number % 4
    match number % 10:
        case 7:
            token = CancellationToken()
            engine.generate(
                prompt, cancellation=token, on_token=lambda _: token.cancel(), max_tokens=9
            )
        case 8:
            engine.generate([10**9], max_tokens=most)
        case 9:
            engine.generate(prompt, request_timeout=1e-9, max_tokens=most)
        case _:
            with engine.stream(prompt, max_tokens=most, ignore_eos=True) as stream:
                for _ in stream:
                    pass


def _sample(text: str, name: str, label: str) -> float:
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(name) and label in line
    )


def test_a_request_is_a_span_under_the_host_with_tokens_when_it_was_slow(tmp_path):
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    exporter = OtlpExporter(
        signals=["traces"], tracer_provider=provider, tail=TailExpansion(slow_s=0.0)
    )
    with (
        exporter,
        tiny_engine(tmp_path, exporters=[exporter]) as engine,
        provider.get_tracer("host").start_as_current_span("checkout") as host,
    ):
        result = engine.generate("Prompt", **OPTIONS)
        engine.flush(5.0)
    found = {span.name: span for span in spans.get_finished_spans()}
    ours = found["text_completion tiny"]
    assert ours.parent.span_id == host.get_span_context().span_id
    assert f"{ours.context.trace_id:032x}" == result.correlation.trace_id
    tokens = [event for event in found["decode"].events if event.name == "smallmind.token"]
    assert len(tokens) == result.usage.completion_tokens
    assert result.stop_reason is StopReason.MAX_TOKENS
