"""A question to documents, as a real collector passes it on: one trace, one request id."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from engines import tiny_engine
from otlp_receiver import Received, attributes, grpc_receiver
from rag_indexes import open_index, texts
from rotel_process import running_rotel
from smallmind.rag import PromptOptions, RagAnswer, RagPipeline, RetrievalOptions
from smallmind_engine.telemetry import RuntimeLogEvent
from smallmind_exporters.memory import InMemoryExporter
from smallmind_exporters.otlp import OtlpExporter

HOST = "host"
PARTS = {HOST, "retrieval", "chat", "queue", "prefill", "decode"}
BRIEF = PromptOptions(instructions="Answer from the sources.", titles=False)


@dataclass(frozen=True)
class Observed:
    received: Received
    answer: RagAnswer
    logged: list[RuntimeLogEvent]

    @property
    def spans(self) -> dict[str, Any]:
        """Those of the answer's trace, by the first word of their names."""
        trace_id = self.answer.correlation.trace_id
        spans = [span for span in self.received.spans if span.trace_id.hex() == trace_id]
        named = {span.name.split(" ")[0]: span for span in spans}
        assert len(named) == len(spans)
        return named

    @property
    def records(self) -> list[dict[str, Any]]:
        """The attributes of log records of the answer's trace."""
        trace_id = self.answer.correlation.trace_id
        logs = [record for record in self.received.logs if record.trace_id.hex() == trace_id]
        return [attributes(record.attributes) for record in logs]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("rag")
    with ExitStack() as held:
        received = held.enter_context(grpc_receiver())
        endpoint = held.enter_context(running_rotel(received.endpoint, folder))["http/protobuf"]
        host = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        sender = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
        host.add_span_processor(SimpleSpanProcessor(sender))
        held.callback(host.shutdown)
        memory = held.enter_context(InMemoryExporter())
        otlp = held.enter_context(OtlpExporter(endpoint=endpoint, protocol="http/protobuf"))
        engine = held.enter_context(tiny_engine(folder, exporters=[memory, otlp]))
        index = held.enter_context(open_index(folder, name="library"))
        index.update(texts())
        pipeline = RagPipeline(engine, index, prompt=BRIEF, retrieval=RetrievalOptions(top_k=1))
        with host.get_tracer(HOST).start_as_current_span(HOST):
            answer = pipeline.ask("What do tides follow?", max_tokens=8, ignore_eos=True)
        flushed = engine.flush(20.0)["otlp"]
        assert flushed.complete, flushed
        request_id = answer.correlation.request_id
        logged = [
            event
            for event in memory.of(RuntimeLogEvent)
            if event.correlation.request_id == request_id
        ]
        made = Observed(received, answer, logged)
        _eventually(lambda: made.spans.keys() >= PARTS and len(made.records) >= len(logged))
        yield made


def test_the_collector_passes_on_one_trace_from_the_host_to_the_phases(observed: Observed) -> None:
    spans = observed.spans
    assert spans.keys() == PARTS
    assert spans[HOST].parent_span_id == b""
    for name in ("retrieval", "chat"):
        assert spans[name].parent_span_id == spans[HOST].span_id, name
    for name in ("queue", "prefill", "decode"):
        assert spans[name].parent_span_id == spans["chat"].span_id, name


def test_spans_log_records_and_the_result_carry_one_request_id(observed: Observed) -> None:
    answer, spans = observed.answer, observed.spans
    request_id = answer.result.correlation.request_id
    assert answer.retrieval.correlation.request_id == request_id
    assert attributes(spans["retrieval"].attributes)["smallmind.request_id"] == request_id
    assert attributes(spans["chat"].attributes)["gen_ai.response.id"] == request_id
    assert len(observed.records) == len(observed.logged) > 0
    assert {record["smallmind.request_id"] for record in observed.records} == {request_id}
    assert {event.component for event in observed.logged} >= {"rag"}


def _eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
