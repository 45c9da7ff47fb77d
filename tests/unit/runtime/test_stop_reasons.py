"""Every stop reason is reached, and stands in the result, the events and the log line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines import Recorder, tiny_engine
from smallmind import CancellationToken, Engine, GenerationResult, SmallMindError, StopReason
from smallmind_engine.telemetry import (
    BackpressureApplied,
    InferenceStopped,
    MemoryBudgetEvent,
    RequestRejected,
    RequestStatus,
    RuntimeLogEvent,
)
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    InferenceError,
    MemoryBudgetError,
    OperationCancelledError,
)

GREEDY = {"temperature": 0.0, "ignore_eos": True}


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        yield engine


def assert_told(
    recorder: Recorder, reason: StopReason, status: RequestStatus, result: GenerationResult | None
) -> None:
    """The last stop event and its log line carry the reason of the result."""
    stopped = recorder.of(InferenceStopped)[-1]
    assert (reason, status) == (stopped.reason, stopped.status)
    line = [e for e in recorder.of(RuntimeLogEvent) if e.message == "request stopped"][-1]
    assert reason.value == line.reason
    assert result is not None
    assert reason is result.stop_reason
    assert result.correlation == stopped.correlation == line.correlation


def test_max_tokens(engine: Engine, recorder: Recorder) -> None:
    result = engine.generate("the", max_tokens=3, **GREEDY)
    assert len(result.token_ids) == 3
    assert_told(recorder, StopReason.MAX_TOKENS, RequestStatus.COMPLETED, result)


def test_completed_at_the_end_of_sequence_token(engine: Engine, recorder: Recorder) -> None:
    result = engine.generate("the", max_tokens=50, temperature=0.0, logit_bias={0: 1e6})
    assert result.token_ids == ()
    assert result.text == ""
    assert_told(recorder, StopReason.COMPLETED, RequestStatus.COMPLETED, result)


def test_stop_sequence_is_left_out_of_the_text(engine: Engine, recorder: Recorder) -> None:
    whole = engine.generate("the", max_tokens=12, **GREEDY)
    stop = whole.text[3:6]
    assert len(stop) == 3
    result = engine.generate("the", max_tokens=12, stop=stop, **GREEDY)
    assert result.text == whole.text[: whole.text.index(stop)]
    assert result.stop_sequence == stop
    assert_told(recorder, StopReason.STOP_SEQUENCE, RequestStatus.COMPLETED, result)


def test_context_full(tmp_path: Path, recorder: Recorder) -> None:
    with tiny_engine(tmp_path, exporters=[recorder], context_length=16) as engine:
        result = engine.generate([5] * 10, max_tokens=100, **GREEDY)
    assert result.usage.total_tokens == 17  # the last token needs no place in the cache
    assert_told(recorder, StopReason.CONTEXT_FULL, RequestStatus.COMPLETED, result)


def test_cancelled_by_caller_keeps_the_partial_text(engine: Engine, recorder: Recorder) -> None:
    token = CancellationToken()
    result = engine.generate(
        "the",
        max_tokens=50,
        cancellation=token,
        on_token=lambda chunk: token.cancel() if chunk.index == 4 else None,
        **GREEDY,
    )
    assert len(result.token_ids) == 5
    assert_told(recorder, StopReason.CANCELLED_BY_CALLER, RequestStatus.CANCELLED, result)


def test_cancelled_before_the_first_step_gives_an_empty_result(
    engine: Engine, recorder: Recorder
) -> None:
    token = CancellationToken()
    token.cancel()
    result = engine.generate("the", cancellation=token)
    assert result.text == ""
    assert_told(recorder, StopReason.CANCELLED_BY_CALLER, RequestStatus.CANCELLED, result)


def test_closing_a_stream_cancels_it(engine: Engine, recorder: Recorder) -> None:
    with engine.stream("the", max_tokens=50, **GREEDY) as stream:
        first = next(stream)
    assert stream.result is not None
    assert stream.result.token_ids == (first.token_id,)
    assert_told(recorder, StopReason.CANCELLED_BY_CALLER, RequestStatus.CANCELLED, stream.result)


def test_a_dropped_stream_is_cancelled_too(engine: Engine, recorder: Recorder) -> None:
    next(engine.stream("the", max_tokens=50, **GREEDY))
    assert recorder.of(InferenceStopped)[-1].reason is StopReason.CANCELLED_BY_CALLER


def test_timeout_returns_the_partial_text(engine: Engine, recorder: Recorder) -> None:
    held = threading.Event()
    result = engine.generate(
        "the",
        max_tokens=50,
        request_timeout=0.2,
        on_token=lambda chunk: held.wait(0.3) if chunk.index == 2 else None,
        **GREEDY,
    )
    assert len(result.token_ids) == 3
    assert_told(recorder, StopReason.CANCELLED_BY_TIMEOUT, RequestStatus.CANCELLED, result)


def test_a_full_buffer_stops_the_request_when_the_policy_says_so(
    engine: Engine, recorder: Recorder
) -> None:
    stream = engine.stream(
        "the", max_tokens=50, max_buffered_tokens=2, backpressure="cancel", **GREEDY
    )
    chunks = []
    # Reading begins only when the request has ended, so the buffer is certain to fill.
    while stream.result is None:
        threading.Event().wait(0.001)
    chunks.extend(stream)
    assert [chunk.index for chunk in chunks[:3]] == [0, 1, 2]
    told = recorder.of(BackpressureApplied)[-1]
    assert (told.policy, told.limit) == ("cancel", 2)
    assert_told(
        recorder, StopReason.BACKPRESSURE_BUFFER_FULL, RequestStatus.CANCELLED, stream.result
    )


def test_a_full_queue_turns_a_request_away(tmp_path: Path, recorder: Recorder) -> None:
    with tiny_engine(
        tmp_path, exporters=[recorder], max_concurrent_requests=1, max_queue_depth=0
    ) as engine:
        running = engine.stream("the", max_tokens=50, **GREEDY)
        next(running)
        with pytest.raises(BackpressureError) as caught:
            engine.generate("the", **GREEDY)
        running.close()
        result = caught.value.details["result"]
        stops = [e.reason for e in recorder.of(InferenceStopped)]
    assert (caught.value.details["queue_depth"], caught.value.details["limit"]) == (0, 0)
    assert recorder.of(RequestRejected)[-1].reason == StopReason.BACKPRESSURE_QUEUE_FULL
    assert isinstance(result, GenerationResult)
    assert result.stop_reason is StopReason.BACKPRESSURE_QUEUE_FULL
    assert stops == [StopReason.BACKPRESSURE_QUEUE_FULL, StopReason.CANCELLED_BY_CALLER]


def test_a_strict_budget_refuses_with_numbers(tmp_path: Path, recorder: Recorder) -> None:
    with tiny_engine(tmp_path) as probe:
        weights = sum(usage.current_bytes for usage in probe.memory)
        per_token = probe.model.runner.kv_bytes_per_token
    with tiny_engine(
        tmp_path,
        exporters=[recorder],
        max_memory_bytes=weights + 64 * per_token,
        memory_budget_mode="strict",
    ) as engine:
        with pytest.raises(MemoryBudgetError, match="may have 64 tokens") as caught:
            engine.generate("the", max_tokens=100, **GREEDY)
        fits = engine.generate("the", max_tokens=40, **GREEDY)
    assert fits.stop_reason is StopReason.MAX_TOKENS
    assert caught.value.details["wanted_bytes"] == 128 * per_token
    assert recorder.of(MemoryBudgetEvent)[0].granted_bytes == 0
    stopped = recorder.of(InferenceStopped)[0]
    assert (stopped.reason, stopped.status) == (
        StopReason.MEMORY_BUDGET_EXCEEDED,
        RequestStatus.REJECTED,
    )


def test_a_best_effort_budget_gives_less_and_says_so(tmp_path: Path, recorder: Recorder) -> None:
    with tiny_engine(tmp_path) as probe:
        weights = sum(usage.current_bytes for usage in probe.memory)
        per_token = probe.model.runner.kv_bytes_per_token
    with tiny_engine(
        tmp_path,
        exporters=[recorder],
        max_memory_bytes=weights + 64 * per_token,
        memory_budget_mode="best_effort",
        weights="resident",
        kv_cache_type=probe.model.runner.kv_type,
    ) as engine:
        result = engine.generate("the", max_tokens=100, **GREEDY)
    assert result.usage.total_tokens == 65
    assert recorder.of(MemoryBudgetEvent)[-1].granted_bytes == 64 * per_token
    assert_told(recorder, StopReason.MEMORY_BUDGET_SOFT_LIMIT, RequestStatus.COMPLETED, result)


def test_an_error_in_the_model_keeps_what_was_produced(
    engine: Engine, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = engine.model.runner
    forward = type(runner).forward
    steps = iter(range(100))

    def broken(self: object, *args: object, **kwargs: object) -> object:
        answers = forward(self, *args, **kwargs)
        nothing = np.full(engine.model.spec.vocab_size, np.nan, np.float32)
        return [nothing for _ in answers] if next(steps) == 3 else answers

    monkeypatch.setattr(type(runner), "forward", broken)
    with pytest.raises(InferenceError) as caught:
        engine.generate("the", max_tokens=10, **GREEDY)
    result = caught.value.details["result"]
    assert isinstance(result, GenerationResult)
    assert len(result.token_ids) == 3
    assert_told(recorder, StopReason.ERROR, RequestStatus.FAILED, result)
    assert recorder.of(InferenceStopped)[-1].error_type == "InferenceError"


def test_an_error_of_the_callers_own_callback_comes_through(
    engine: Engine, recorder: Recorder
) -> None:
    def on_token(chunk: object) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        engine.generate("the", on_token=on_token, **GREEDY)
    assert recorder.of(InferenceStopped)[-1].error_type == "KeyError"


def test_closing_the_engine_stops_its_streams(tmp_path: Path, recorder: Recorder) -> None:
    engine = tiny_engine(tmp_path, exporters=[recorder])
    stream = engine.stream("the", max_tokens=50, **GREEDY)
    next(stream)
    engine.close()
    assert list(stream) == []
    assert stream.result is not None
    assert stream.result.stop_reason is StopReason.CANCELLED_BY_CALLER


def test_a_load_can_be_cancelled(tmp_path: Path) -> None:
    token = CancellationToken()
    token.cancel()
    with pytest.raises(OperationCancelledError) as caught:
        tiny_engine(tmp_path, cancellation=token)
    assert caught.value.reason == StopReason.CANCELLED_BY_CALLER


def test_every_request_that_was_queued_stopped_exactly_once(
    engine: Engine, recorder: Recorder
) -> None:
    engine.generate("the", max_tokens=2)
    with pytest.raises(SmallMindError):
        engine.generate("x" * 1000)
    engine.stream("never begun")
    stops = [event.correlation.request_id for event in recorder.of(InferenceStopped)]
    assert len(stops) == len(set(stops)) == 2
