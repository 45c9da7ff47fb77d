"""Spans of requests and of loading, as a receiver gets them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otlp_receiver import attributes
from smallmind_engine.telemetry import (
    ANCHOR,
    DegradeReason,
    FirstToken,
    InferenceStarted,
    InferenceStopped,
    PrefillEnded,
    RequestAdmitted,
    RequestQueued,
    RequestStatus,
    StopReason,
)
from smallmind_engine.telemetry.events import Degraded
from smallmind_exporters import conventions
from smallmind_exporters.otlp.operation_attributes import (
    MEANINGS,
    embedding_attributes,
    retrieval_attributes,
)
from telemetry_events import (
    MODEL,
    SPAN_ID,
    TRACE_ID,
    correlation,
    embedding,
    headers,
    model_load,
    rejected_request,
    request,
    retrieval,
)

ROOT = correlation(has_parent=False)
CHILD = correlation(has_parent=True)
INTERNAL = 1
ERROR = 2
NAME = f"text_completion {MODEL}"


def at(events, kind):
    (event,) = [event for event in events if isinstance(event, kind)]
    return ANCHOR.to_wall_ns(event.time_ns)


def interval(span):
    return span.start_time_unix_nano, span.end_time_unix_nano


def test_a_request_without_a_parent_has_the_ids_that_its_log_lines_carry(send):
    span = send(request(headers(ROOT))).span(NAME)
    assert (span.trace_id.hex(), span.span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert span.parent_span_id == b""


def test_a_request_with_a_parent_is_its_child_in_the_same_trace(send):
    span = send(request(headers(CHILD))).span(NAME)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert span.span_id.hex() != SPAN_ID


def test_the_callers_tracestate_is_passed_on_with_all_spans(send):
    spans = send(request(headers(replace(CHILD, trace_state="congo=t61,rojo=00f0")))).spans
    assert {span.trace_state for span in spans} == {"congo=t61,rojo=00f0"}


def test_spans_are_internal_because_the_model_runs_in_this_process(send):
    assert {span.kind for span in send(request(headers(ROOT))).spans} == {INTERNAL}


def test_the_phases_are_children_with_the_times_of_their_events(send):
    events = list(request(headers(ROOT)))
    received = send(events)
    assert {name: interval(received.span(name)) for name in ("queue", "prefill", "decode")} == {
        "queue": (at(events, RequestQueued), at(events, RequestAdmitted)),
        "prefill": (at(events, InferenceStarted), at(events, PrefillEnded)),
        "decode": (at(events, PrefillEnded), at(events, InferenceStopped)),
    }
    for name in ("queue", "prefill", "decode"):
        assert received.span(name).parent_span_id.hex() == SPAN_ID
        assert received.span(name).trace_id.hex() == TRACE_ID


def test_a_request_lasts_from_its_submission_to_its_end(send):
    events = list(request(headers(ROOT)))
    end = at(events, InferenceStopped)
    span = send(events).span(NAME)
    assert interval(span) == (end - int(events[-1].duration_s * 1e9), end)


def test_children_lie_inside_the_request(send):
    received = send(request(headers(ROOT), tokens=40, token_s=0.0))
    outer = received.span(NAME)
    for name in ("queue", "prefill", "decode"):
        begin, end = interval(received.span(name))
        assert outer.start_time_unix_nano <= begin <= end <= outer.end_time_unix_nano


def test_attributes_are_those_of_the_conventions_and_ours(send):
    found = attributes(
        send(request(headers(replace(ROOT, session_id="alice")))).span(NAME).attributes
    )
    assert found == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "smallmind",
        "gen_ai.request.model": MODEL,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.id": "req-1",
        "gen_ai.conversation.id": "alice",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 4,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.875,
        "gen_ai.request.top_k": 40.0,
        "gen_ai.request.frequency_penalty": 0.25,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.seed": 7,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.response.time_to_first_chunk": 0.328125,
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "smallmind.status": "completed",
        "smallmind.stop_reason": "MAX_TOKENS",
        "smallmind.backend": "numpy",
        "smallmind.time_to_first_token": 0.328125,
        "smallmind.kv_cache.tokens": 16,
        "smallmind.kv_cache.bytes": 16384,
        "smallmind.phase.queue": 0.0625,
        "smallmind.phase.prefill": 0.25,
        "smallmind.phase.decode": 0.09375,
        "smallmind.phase.consumer": 0.0234375,
        "smallmind.phase.unattributed": 0.015625,
        "smallmind.detail": "request",
    }


def test_what_only_streams_have_is_left_out_without_streaming(send):
    found = attributes(send(request(headers(ROOT), streaming=False)).span(NAME).attributes)
    assert conventions.REQUEST_STREAM not in found
    assert conventions.RESPONSE_TIME_TO_FIRST_CHUNK not in found
    assert found["smallmind.time_to_first_token"] == 0.328125


def test_success_leaves_the_status_unset(send):
    assert send(request(headers(ROOT))).span(NAME).status.code == 0


@pytest.mark.parametrize(
    "reason", [StopReason.CANCELLED_BY_CALLER, StopReason.CANCELLED_BY_TIMEOUT]
)
def test_a_cancelled_request_is_no_error(send, reason):
    span = send(request(headers(ROOT), reason=reason)).span(NAME)
    assert span.status.code == 0
    assert attributes(span.attributes)["smallmind.status"] == "cancelled"


def test_a_failed_request_has_an_error_status_and_type(send):
    span = send(request(headers(ROOT), reason=StopReason.ERROR)).span(NAME)
    assert (span.status.code, span.status.message) == (ERROR, "InferenceError")
    found = attributes(span.attributes)
    assert found["error.type"] == "InferenceError"
    assert found["gen_ai.response.finish_reasons"] == ("error",)


def test_a_rejected_request_is_a_span_with_a_queue_and_no_more(send):
    received = send(rejected_request(headers(ROOT)))
    assert sorted(span.name for span in received.spans) == [f"chat {MODEL}", "queue"]
    span = received.span(f"chat {MODEL}")
    assert span.status.code == ERROR
    assert attributes(span.attributes)["smallmind.reject_reason"] == "BACKPRESSURE_QUEUE_FULL"
    assert [event.name for event in span.events] == ["smallmind.rejected", "smallmind.backpressure"]


def test_a_request_whose_prompt_was_refused_is_a_span_alone(send):
    """Such a request is never queued: its end is its only event."""
    (stop,) = list(request(headers(ROOT), reason=StopReason.ERROR, tokens=0))[-1:]
    received = send([stop])
    assert [span.name for span in received.spans] == [NAME]
    assert received.spans[0].status.code == ERROR


def test_what_happens_before_the_queue_belongs_to_the_request(send):
    header = headers(ROOT)
    cut = Degraded(*header(), "request", DegradeReason.CONTEXT_TRUNCATION, "10 left out")
    received = send([cut, *request(header)])
    assert "smallmind.degraded" in [event.name for event in received.span(NAME).events]
    assert len([span for span in received.spans if span.name == NAME]) == 1


def test_steps_are_events_at_their_times(send):
    events = list(request(headers(ROOT)))
    span = send(events).span(NAME)
    told = {event.name: event for event in span.events}
    assert told["smallmind.first_token"].time_unix_nano == at(events, FirstToken)
    assert attributes(told["smallmind.kv_cache.lookup"].attributes)["smallmind.hit"] is True


def test_loading_a_model_is_a_span_with_its_phases(send):
    received = send(model_load(headers(ROOT), issues=(DegradeReason.TOKENIZER_MERGES_MISSING,)))
    span = received.span(f"load {MODEL}")
    found = attributes(span.attributes)
    assert found["smallmind.load.model"] == MODEL
    assert not any(name.startswith("gen_ai.") for name in found)
    assert found["smallmind.load.phase.weights"] == 0.5
    assert found["smallmind.load.quantization"] == "Q4_1"
    assert [event.name for event in span.events] == [
        "smallmind.tokenizer",
        "smallmind.kernels.prepared",
    ]


def test_a_load_that_failed_says_why(send):
    span = send(model_load(headers(ROOT), status=RequestStatus.FAILED)).span(f"load {MODEL}")
    assert (span.status.code, span.status.message) == (ERROR, "GGUF_TRUNCATED")
    assert attributes(span.attributes)["error.type"] == "GGUF_TRUNCATED"


def test_an_unsampled_parent_leaves_its_request_out_and_counts_it_delivered(send):
    received = send(request(headers(correlation(trace_flags=0))))
    assert received.spans == []
    assert received.metrics["smallmind.generated_tokens"]


def test_the_environment_chooses_the_sampler(send, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert send(request(headers(ROOT))).spans == []


def test_requests_that_share_an_id_keep_their_events_apart(send):
    """A caller may give the same id to several requests at once."""
    first, second = (correlation("same", has_parent=False) for _ in range(2))
    a, b = list(request(headers(first), tokens=2)), list(request(headers(second), tokens=5))
    mixed = [event for pair in zip(a, b, strict=False) for event in pair] + b[len(a) :]
    received = send(mixed)
    counts = [
        attributes(span.attributes)["gen_ai.usage.output_tokens"]
        for span in received.spans
        if span.name == NAME
    ]
    assert sorted(counts) == [2, 5]
    assert [span.name for span in received.spans].count("decode") == 2


def test_names_that_utf8_cannot_carry_do_not_fail_their_batch(send):
    received = send(
        [*request(headers(correlation("a")), model="bad\ud800"), *request(headers("b"))]
    )
    assert {span.name for span in received.spans} >= {"text_completion bad?", NAME}


def test_a_retrieval_is_a_span_with_the_conventions_names_and_no_text(send):
    span = send(retrieval(headers(CHILD))).span("retrieval docs")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    found = attributes(span.attributes)
    assert found["gen_ai.operation.name"] == "retrieval"
    assert found["gen_ai.data_source.id"] == "docs"
    assert found["smallmind.request_id"] == CHILD.request_id
    assert found["smallmind.retrieval.status"] == "completed"


def test_a_retrieval_that_failed_says_so(send):
    failed = retrieval(headers(CHILD), status=RequestStatus.FAILED, returned=0)
    span = send(failed).span("retrieval docs")
    assert (span.status.code, span.status.message) == (ERROR, "RAG_EVIDENCE_INSUFFICIENT")
    assert attributes(span.attributes)["error.type"] == "RAG_EVIDENCE_INSUFFICIENT"


def test_a_retrieval_that_found_too_little_is_no_error(send):
    span = send(retrieval(headers(CHILD), returned=0)).span("retrieval docs")
    assert span.status.code == 0
    assert "error.type" not in attributes(span.attributes)


def test_an_embedding_is_a_span_as_long_as_it_took(send):
    (ended,) = embedding(headers(CHILD))
    span = send([ended]).span(f"embeddings {ended.model}")
    begin, end = interval(span)
    assert end == ANCHOR.to_wall_ns(ended.time_ns)
    assert end - begin == int(ended.duration_s * 1e9)
    found = attributes(span.attributes)
    assert found["gen_ai.operation.name"] == "embeddings"
    assert found["gen_ai.embeddings.dimension.count"] == ended.dimension
    assert found["gen_ai.usage.input_tokens"] == ended.tokens


def test_an_embedding_inside_a_request_with_its_ids_leaves_the_request_whole(send):
    events = list(request(headers(CHILD)))
    (inside,) = embedding(headers(CHILD))
    received = send([*events[:3], inside, *events[3:]])
    assert received.span(NAME).trace_id.hex() == TRACE_ID
    assert len([s for s in received.spans if s.name.startswith("embeddings")]) == 1


@pytest.mark.parametrize(
    ("operation", "attributes_of", "event"),
    [
        ("retrieval", retrieval_attributes, list(retrieval(headers(CHILD)))[-1]),
        ("embeddings", embedding_attributes, list(embedding(headers(CHILD)))[-1]),
    ],
)
def test_the_reference_explains_each_attribute_of_an_operation(operation, attributes_of, event):
    named = {name for name in attributes_of(event) if ".phase." not in name}
    explained = {name for name in MEANINGS[operation] if "<phase>" not in name}
    assert named == explained
