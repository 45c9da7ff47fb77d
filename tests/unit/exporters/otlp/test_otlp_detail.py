"""Detail of spans: levels, tail expansion, the ring, and the capture of content."""

from __future__ import annotations

import pytest

from otlp_receiver import attributes
from smallmind_engine.telemetry import ANCHOR, EventKind, KernelExecuted, StopReason, TokenGenerated
from smallmind_engine.telemetry.errors import ConfigError
from smallmind_exporters.otlp import OtlpExporter, TailExpansion
from telemetry_events import MODEL, correlation, headers, rejected_request, request

ROOT = correlation(has_parent=False)
NAME = f"text_completion {MODEL}"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def with_kernels(events):
    """An operation of the model before each token."""
    for event in events:
        if isinstance(event, TokenGenerated):
            yield KernelExecuted(
                event.sequence,
                event.time_ns,
                event.correlation,
                MODEL,
                "numpy",
                "qkv",
                0,
                "Q8_0",
                1,
                0.001,
                4000,
                8000,
            )
        yield event


def with_ids(events):
    for event in events:
        yield (
            event._replace(token_id=100 + event.index)
            if isinstance(event, TokenGenerated)
            else event
        )


def told(received, name="decode"):
    return [event.name for event in received.span(name).events]


def test_at_the_level_of_requests_no_token_is_told(send):
    received = send(request(headers(ROOT)))
    assert told(received) == []


def test_at_the_level_of_tokens_each_token_is_an_event_at_its_time(send):
    events = list(request(headers(ROOT), tokens=6))
    received = send(events, detail="token")
    tokens = [event for event in events if isinstance(event, TokenGenerated)]
    found = received.span("decode").events
    assert [event.time_unix_nano for event in found] == [
        ANCHOR.to_wall_ns(token.time_ns) for token in tokens
    ]
    assert [attributes(event.attributes) for event in found] == [
        {
            "smallmind.index": token.index,
            "smallmind.engine_s": token.engine_s,
            "smallmind.consumer_s": token.consumer_s,
        }
        for token in tokens
    ]


def test_at_the_level_of_kernels_each_operation_is_an_event_of_its_phase(send):
    received = send(with_kernels(request(headers(ROOT))), detail="kernel")
    assert told(received).count("smallmind.kernel") == 4
    assert told(received).count("smallmind.token") == 4


def test_kernels_are_asked_for_at_their_level_only(receiver):
    for detail, wanted in (("request", False), ("token", False), ("kernel", True)):
        with OtlpExporter(endpoint=receiver.endpoint, detail=detail) as exporter:
            assert bool(exporter.interests & EventKind.KERNEL_EXECUTED) is wanted


@pytest.mark.parametrize(
    ("tail", "cause"),
    [
        (TailExpansion(slow_s=0.4), "slow"),
        (TailExpansion(slow_first_token_s=0.3), "slow"),
        (TailExpansion(slow_token_s=0.03), "slow"),
        (TailExpansion(flag=lambda stop: stop.prompt_tokens == 12), "flagged"),
        (TailExpansion(slow_s=0.5), None),
        (TailExpansion(slow_first_token_s=0.4), None),
        (TailExpansion(slow_token_s=0.04), None),
        (TailExpansion(flag=lambda _: False), None),
        (TailExpansion(), None),
    ],
)
def test_only_requests_that_are_worth_it_are_expanded(send, tail, cause):
    received = send(request(headers(ROOT)), tail=tail)
    found = attributes(received.span(NAME).attributes)
    assert found.get("smallmind.detail.cause") == cause
    assert found["smallmind.detail"] == ("token" if cause else "request")
    assert told(received) == (["smallmind.token"] * 4 if cause else [])


def test_a_failed_request_is_expanded_unless_that_is_switched_off(send):
    failed = list(request(headers(ROOT), reason=StopReason.ERROR))
    assert len(told(send(failed, tail=TailExpansion()))) == 4


def test_a_failed_request_is_not_expanded_when_that_is_switched_off(send):
    failed = list(request(headers(ROOT), reason=StopReason.ERROR))
    assert told(send(failed, tail=TailExpansion(failed=False))) == []


def test_a_rejected_request_counts_as_failed(send):
    received = send(rejected_request(headers(ROOT)), tail=TailExpansion())
    found = attributes(received.span(f"chat {MODEL}").attributes)
    assert found["smallmind.detail.cause"] == "failed"


def test_a_request_is_expanded_when_its_id_was_flagged(receiver):
    with OtlpExporter(endpoint=receiver.endpoint, tail=TailExpansion()) as exporter:
        exporter.flag("req-2")
        for number in (1, 2):
            for event in request(headers(correlation(f"req-{number}", has_parent=False))):
                exporter.export(event)
        assert exporter.flush(5.0).complete
    causes = [
        attributes(span.attributes).get("smallmind.detail.cause")
        for span in receiver.spans
        if span.name == NAME
    ]
    assert causes == [None, "flagged"]


def test_a_flag_that_raises_flags(send):
    def flag(stop):
        raise RuntimeError(stop)

    received = send(request(headers(ROOT)), tail=TailExpansion(flag=flag))
    assert attributes(received.span(NAME).attributes)["smallmind.detail.cause"] == "flagged"


def test_expansion_may_reach_down_to_kernels(send):
    tail = TailExpansion(slow_s=0.1, detail="kernel")
    received = send(with_kernels(request(headers(ROOT))), tail=tail)
    assert told(received).count("smallmind.kernel") == 4


def test_the_ring_keeps_the_last_tokens_and_says_how_many_went(send):
    received = send(request(headers(ROOT), tokens=50), detail="token", ring=8)
    indexes = [
        attributes(event.attributes)["smallmind.index"] for event in received.span("decode").events
    ]
    assert indexes == list(range(42, 50))
    assert attributes(received.span(NAME).attributes)["smallmind.detail.tokens_dropped"] == 42


def test_the_sdks_own_limit_on_events_does_not_cut_a_ring_short(send):
    """The SDK keeps 128 events of a span unless the environment says otherwise."""
    received = send(request(headers(ROOT), tokens=600), detail="token")
    assert len(told(received)) == 600


def test_the_limit_of_the_environment_is_kept(send, monkeypatch):
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "10")
    received = send(request(headers(ROOT), tokens=50), detail="token")
    assert len(told(received)) == 10
    assert received.span("decode").dropped_events_count == 40


def test_ids_of_tokens_are_left_out_by_default(send):
    received = send(with_ids(request(headers(ROOT))), detail="token")
    assert "token_id" not in str(received.requests["traces"])
    assert "token_ids" not in str(received.requests["traces"])


@pytest.mark.parametrize("value", ["SPAN_ONLY", "span_and_event", "true"])
def test_ids_of_tokens_are_on_the_span_when_host_and_engine_want_it(send, monkeypatch, value):
    monkeypatch.setenv(CAPTURE, value)
    received = send(with_ids(request(headers(ROOT))))
    found = attributes(received.span(NAME).attributes)
    assert found["smallmind.output.token_ids"] == (100, 101, 102, 103)


@pytest.mark.parametrize("value", ["NO_CONTENT", "EVENT_ONLY", "false", ""])
def test_other_values_leave_them_off_the_span(send, monkeypatch, value):
    monkeypatch.setenv(CAPTURE, value)
    received = send(with_ids(request(headers(ROOT))))
    assert "smallmind.output.token_ids" not in attributes(received.span(NAME).attributes)


def test_an_engine_that_captures_nothing_has_nothing_to_show(send):
    received = send(request(headers(ROOT)), capture_content=True)
    assert "smallmind.output.token_ids" not in attributes(received.span(NAME).attributes)


def test_a_request_is_a_log_event_too_when_the_host_asks_for_it(send, monkeypatch):
    monkeypatch.setenv(CAPTURE, "EVENT_ONLY")
    received = send(with_ids(request(headers(ROOT))))
    (record,) = received.logs
    assert record.event_name == "gen_ai.client.inference.operation.details"
    found = attributes(record.attributes)
    assert found["smallmind.output.token_ids"] == (100, 101, 102, 103)
    assert found["gen_ai.usage.output_tokens"] == 4


@pytest.mark.parametrize(
    "options",
    [
        {"detail": "everything"},
        {"tail": TailExpansion(detail="everything")},
        {"ring": 0},
        {"signals": ["smoke"]},
        {"protocol": "pigeon"},
    ],
)
def test_an_option_that_means_nothing_is_an_error_that_says_so(options):
    with pytest.raises(ConfigError, match=r"everything|ring is 0|smoke|pigeon"):
        OtlpExporter(**options)
