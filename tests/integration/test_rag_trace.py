"""A question to documents, seen end to end: one trace under the host's span, one set of ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from engines import tiny_engine
from otlp_receiver import Received, attributes, http_receiver
from rag_indexes import open_index, texts
from smallmind import Engine
from smallmind.rag import (
    EngineEmbedder,
    InsufficientEvidenceError,
    PromptOptions,
    RagAnswer,
    RagPipeline,
    RetrievalOptions,
)
from smallmind_exporters.otlp import OtlpExporter
from smallmind_exporters.structured import StructlogExporter

QUESTION = "What do tides follow?"
GREEDY = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True}
BRIEF = PromptOptions(instructions="Answer from the sources.", titles=False)
HOST = "GET /ask"


class Lines:
    """A structlog logger that keeps its lines."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def msg(self, text: str) -> None:
        self.all.append(json.loads(text))

    debug = info = warning = error = msg


@dataclass
class Host:
    """An application with a tracer of its own, and an engine whose exporters know nothing of it."""

    engine: Engine
    pipeline: RagPipeline
    received: Received
    lines: Lines
    provider: TracerProvider

    def handle(self, question: str) -> RagAnswer:
        with self.provider.get_tracer("host").start_as_current_span(HOST):
            return self.pipeline.ask(question, session_id="alice", **GREEDY)

    def spans(self) -> dict[str, Any]:
        """By the first word of their names."""
        self.engine.flush(10.0)
        return {span.name.split(" ")[0]: span for span in self.received.spans}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with ExitStack() as held:
        received = held.enter_context(http_receiver())
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
        provider = TracerProvider()
        sender = OTLPSpanExporter(endpoint=f"{received.endpoint}/v1/traces")
        provider.add_span_processor(SimpleSpanProcessor(sender))
        held.callback(provider.shutdown)
        lines = Lines()
        logger = structlog.wrap_logger(
            lines,
            processors=[structlog.processors.JSONRenderer()],
            wrapper_class=structlog.BoundLogger,
        )
        otlp = held.enter_context(OtlpExporter(endpoint=received.endpoint))
        structured = held.enter_context(StructlogExporter(logger))
        engine = held.enter_context(tiny_engine(tmp_path, exporters=[otlp, structured]))
        index = held.enter_context(
            open_index(tmp_path, name="library", embedder=EngineEmbedder(engine))
        )
        index.update(texts())
        engine.flush(10.0)
        received.requests["traces"].clear()
        lines.all.clear()
        pipeline = RagPipeline(engine, index, prompt=BRIEF, retrieval=RetrievalOptions(top_k=1))
        yield Host(engine, pipeline, received, lines, provider)


def test_the_whole_question_is_one_trace_under_the_hosts_span(host: Host) -> None:
    answer = host.handle(QUESTION)
    spans = host.spans()
    assert spans.keys() == {
        "GET", "embeddings", "retrieval", "chat", "queue", "prefill", "decode",
    }  # fmt: skip
    assert {span.trace_id.hex() for span in spans.values()} == {answer.correlation.trace_id}
    root = spans["GET"]
    assert root.parent_span_id == b""
    for name in ("retrieval", "embeddings", "chat"):
        assert spans[name].parent_span_id == root.span_id, name
    for name in ("queue", "prefill", "decode"):
        assert spans[name].parent_span_id == spans["chat"].span_id, name
    assert len({span.span_id for span in spans.values()}) == len(spans)


def test_its_parts_follow_each_other_inside_the_hosts_span(host: Host) -> None:
    host.handle(QUESTION)
    spans = host.spans()

    def inside(inner: str, outer: str) -> bool:
        one, other = spans[inner], spans[outer]
        # Two clocks were read: the host's own wall clock, and ours, which is anchored to it once.
        slack_ns = 5_000_000
        return (
            other.start_time_unix_nano - slack_ns <= one.start_time_unix_nano
            and one.end_time_unix_nano <= other.end_time_unix_nano + slack_ns
        )

    assert inside("retrieval", "GET")
    assert inside("chat", "GET")
    assert inside("embeddings", "retrieval")
    assert spans["retrieval"].end_time_unix_nano <= spans["chat"].start_time_unix_nano
    assert spans["queue"].end_time_unix_nano <= spans["prefill"].start_time_unix_nano
    assert spans["prefill"].end_time_unix_nano <= spans["decode"].start_time_unix_nano


def test_spans_log_lines_and_the_result_have_the_same_ids(host: Host) -> None:
    answer = host.handle(QUESTION)
    spans = {name: attributes(span.attributes) for name, span in host.spans().items()}
    request_id = answer.correlation.request_id
    assert answer.retrieval.correlation.request_id == request_id
    assert spans["retrieval"]["smallmind.request_id"] == request_id
    assert spans["chat"]["gen_ai.response.id"] == request_id
    assert spans["retrieval"]["gen_ai.conversation.id"] == "alice"
    assert spans["chat"]["gen_ai.conversation.id"] == "alice"
    lines = [line for line in host.lines.all if line["request_id"] == request_id]
    told = {line["event"] for line in lines}
    assert "request" in told
    assert any("retrieval" in event for event in told), told
    assert {line["trace_id"] for line in host.lines.all} == {answer.correlation.trace_id}
    assert {line["span_id"] for line in lines} == {answer.correlation.span_id}
    root = host.received.span(HOST)
    assert root.span_id.hex() == answer.correlation.span_id


def test_a_retrieval_tells_what_it_searched_and_found_but_no_text(host: Host) -> None:
    answer = host.handle(QUESTION)
    host.engine.flush(10.0)
    found = attributes(host.received.span("retrieval library").attributes)
    assert found["gen_ai.operation.name"] == "retrieval"
    assert found["gen_ai.data_source.id"] == "library"
    assert found["gen_ai.request.top_k"] == 1.0
    assert found["smallmind.retrieval.mode"] == "hybrid"
    assert found["smallmind.retrieval.returned"] == len(answer.retrieval.chunks) == 1
    phases = {name: s for name, s in found.items() if ".phase." in name}
    assert phases == {
        f"smallmind.retrieval.phase.{phase}": seconds for phase, seconds in answer.retrieval.phases
    }
    sent = b"".join(request.SerializeToString() for request in host.received.requests["traces"])
    assert QUESTION.encode() not in sent
    assert b"Tides follow" not in sent


def test_a_question_without_evidence_ends_with_its_retrieval(host: Host) -> None:
    with pytest.raises(InsufficientEvidenceError) as caught:
        host.handle("zzyzx?")
    spans = host.spans()
    assert "chat" not in spans
    found = attributes(spans["retrieval"].attributes)
    assert found["smallmind.request_id"] == caught.value.details["request_id"]
    assert found["smallmind.retrieval.reason"] == "RAG_EVIDENCE_INSUFFICIENT"
    assert "error.type" not in found
    assert spans["retrieval"].parent_span_id == spans["GET"].span_id


def test_without_a_host_the_retrieval_is_the_root_and_has_the_ids_of_the_result(
    host: Host,
) -> None:
    answer = host.pipeline.ask(QUESTION, **GREEDY)
    spans = host.spans()
    assert spans["retrieval"].parent_span_id == b""
    assert spans["retrieval"].span_id.hex() == answer.correlation.span_id
    assert spans["chat"].parent_span_id == spans["retrieval"].span_id
    assert {span.trace_id.hex() for span in spans.values()} == {answer.correlation.trace_id}
