"""A real collector between a real engine and an official receiver; nothing is lost on the way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import use_span

from engines import tiny_engine
from otlp_receiver import Received, attributes, grpc_receiver, points, total
from rotel_process import running_rotel
from smallmind import CancellationToken, GenerationResult, SmallMindError, StopReason
from smallmind_engine.telemetry import (
    ANCHOR,
    InferenceStopped,
    ModelLoadEnded,
    PrefillEnded,
    RequestQueued,
    RuntimeLogEvent,
    TokenGenerated,
)
from smallmind_exporters.memory import InMemoryExporter
from smallmind_exporters.otlp import OtlpExporter

PROTOCOLS = ("grpc", "http/protobuf")
OPTIONS = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 5}


@dataclass(frozen=True)
class Observed:
    received: Received
    memory: InMemoryExporter
    results: list[GenerationResult]
    host_span_id: str
    host_trace_id: str


@pytest.fixture(scope="module", params=PROTOCOLS)
def observed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("otlp")
    host = TracerProvider(shutdown_on_exit=False).get_tracer("host").start_span("checkout")
    with (
        grpc_receiver() as received,
        running_rotel(received.endpoint, folder) as endpoints,
        InMemoryExporter() as memory,
        OtlpExporter(
            endpoint=endpoints[request.param], protocol=request.param, detail="token"
        ) as otlp,
        tiny_engine(folder, exporters=[memory, otlp]) as engine,
    ):
        results = _workload(engine)
        with use_span(host):
            results.append(engine.generate("child", **OPTIONS))
        answer = engine.flush(20.0)["otlp"]
        assert answer.complete, answer
        _eventually(lambda: _whole(received, memory))
        context = host.get_span_context()
        yield Observed(
            received, memory, results, f"{context.span_id:016x}", f"{context.trace_id:032x}"
        )


def _workload(engine) -> list[GenerationResult]:
    results = [engine.generate(f"Number {n}", **OPTIONS) for n in range(20)]
    with engine.stream("Once upon", **OPTIONS) as stream:
        for _ in stream:
            pass
    results.append(stream.result)
    token = CancellationToken()
    results.append(
        engine.generate("Cut", cancellation=token, on_token=lambda _: token.cancel(), **OPTIONS)
    )
    with engine.session("alice") as session:
        results += [session.generate(text, **OPTIONS) for text in ("My name", " is")]
    with engine.stream("Left", **OPTIONS) as left:  # abandoned: its reader goes away
        next(iter(left))
    results.append(left.result)
    with pytest.raises(SmallMindError):
        engine.generate([10**9], **OPTIONS)
    return results


def _whole(received: Received, memory: InMemoryExporter) -> bool:
    requests = len(memory.of(InferenceStopped))
    logs = len(memory.of(RuntimeLogEvent))
    roots = [s for s in received.spans if s.name.startswith(("text_completion", "chat"))]
    counted = received.metrics.get("smallmind.requests")
    return (
        len(roots) >= requests
        and len(received.logs) >= logs
        and counted is not None
        and total(counted) >= requests
    )


def _root_spans(observed: Observed) -> dict[str, object]:
    return {
        attributes(span.attributes)["gen_ai.response.id"]: span
        for span in observed.received.spans
        if span.name.startswith(("text_completion", "chat"))
    }


def test_each_request_is_one_span_with_its_facts(observed: Observed) -> None:
    stops = {stop.correlation.request_id: stop for stop in observed.memory.of(InferenceStopped)}
    roots = _root_spans(observed)
    assert roots.keys() == stops.keys()
    assert len(roots) == len(observed.results) + 1
    for request_id, stop in stops.items():
        span = roots[request_id]
        found = attributes(span.attributes)
        assert span.name == f"{stop.operation} {stop.model}"
        assert span.trace_id.hex() == stop.correlation.trace_id
        assert span.end_time_unix_nano == ANCHOR.to_wall_ns(stop.time_ns)
        assert found["smallmind.stop_reason"] == stop.reason
        assert found["gen_ai.usage.input_tokens"] == stop.prompt_tokens
        assert found["gen_ai.usage.output_tokens"] == stop.completion_tokens
        for phase, seconds in stop.ledger:
            assert found[f"smallmind.phase.{phase}"] == seconds


def test_spans_carry_the_ids_of_the_results(observed: Observed) -> None:
    roots = _root_spans(observed)
    for result in observed.results[:-1]:
        span = roots[result.correlation.request_id]
        assert span.span_id.hex() == result.correlation.span_id
        assert span.parent_span_id == b""


def test_the_request_under_a_span_of_the_host_is_its_child(observed: Observed) -> None:
    span = _root_spans(observed)[observed.results[-1].correlation.request_id]
    assert span.trace_id.hex() == observed.host_trace_id
    assert span.parent_span_id.hex() == observed.host_span_id


def test_the_phases_are_those_that_the_events_tell_of(observed: Observed) -> None:
    names = Counter(span.name for span in observed.received.spans)
    assert names["queue"] == len(observed.memory.of(RequestQueued))
    assert names["decode"] == len(observed.memory.of(PrefillEnded))
    assert names["load tiny"] == len(observed.memory.of(ModelLoadEnded)) == 1


def test_each_token_is_an_event_of_its_request(observed: Observed) -> None:
    told = Counter(
        (span.trace_id.hex(), event.time_unix_nano)
        for span in observed.received.spans
        for event in span.events
        if event.name == "smallmind.token"
    )
    tokens = Counter(
        (token.correlation.trace_id, ANCHOR.to_wall_ns(token.time_ns))
        for token in observed.memory.of(TokenGenerated)
    )
    assert told == tokens
    assert sum(tokens.values()) == sum(r.usage.completion_tokens for r in observed.results)


def test_metrics_agree_with_the_events(observed: Observed) -> None:
    stops = observed.memory.of(InferenceStopped)
    metrics = observed.received.metrics
    for reason in StopReason:
        counted = total(metrics["smallmind.requests"], smallmind__reason=reason)
        assert counted == sum(stop.reason is reason for stop in stops), reason
    assert total(metrics["smallmind.generated_tokens"]) == len(observed.memory.of(TokenGenerated))
    durations = points(metrics["gen_ai.server.request.duration"])
    assert sum(durations.values()) == len(stops)
    assert total(metrics["smallmind.log_events"]) == len(observed.memory.of(RuntimeLogEvent))


def test_each_log_event_is_a_record_with_its_ids(observed: Observed) -> None:
    records = Counter(
        (record.trace_id.hex(), record.time_unix_nano, record.body.string_value)
        for record in observed.received.logs
    )
    events = Counter(
        (event.correlation.trace_id, ANCHOR.to_wall_ns(event.time_ns), event.message)
        for event in observed.memory.of(RuntimeLogEvent)
    )
    assert records == events


def _eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
