"""One thread runs all requests: in shared steps, fairly, and whatever goes wrong with one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines import Recorder, tiny_engine
from smallmind import Engine, SmallMindError, StopReason
from smallmind_engine.runtime import admission, scheduler
from smallmind_engine.telemetry import (
    BackpressureApplied,
    BatchStepped,
    InferenceStopped,
    RequestAdmitted,
    RequestQueued,
)
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    ClosedError,
    ConfigError,
    InferenceError,
)

GREEDY = {"temperature": 0.0, "ignore_eos": True}
LONG = [3 + i * 7 % 250 for i in range(180)]


@pytest.fixture(params=["numba", "numpy"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "numba":
        pytest.importorskip("numba")
    return str(request.param)


def held(engine: Engine) -> tuple[threading.Event, Callable[[object], None]]:
    """An event, and a callback that waits for it at the first token."""
    leave = threading.Event()

    def hold(chunk: object) -> None:
        if chunk.index == 0:
            leave.wait(30)

    return leave, hold


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(20_000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError(condition)


def test_requests_share_steps(engine: Engine, recorder: Recorder) -> None:
    streams = [
        engine.stream([5, 6 + i], max_tokens=40, max_buffered_tokens=8, **GREEDY) for i in range(4)
    ]
    for stream in streams:
        next(stream)
    wait_until(lambda: engine.stats().paused == 4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(list, streams))
    steps = recorder.of(BatchStepped)
    assert max(step.sequences for step in steps) > 1
    assert sum(step.decode_tokens for step in steps) == engine.stats().decode_tokens
    assert {s.result.stop_reason for s in streams} == {StopReason.MAX_TOKENS}


def test_a_batch_has_no_more_sequences_than_allowed(tmp_path: Path, recorder: Recorder) -> None:
    pytest.importorskip("numba")
    with (
        tiny_engine(tmp_path, exporters=[recorder], backend="numba", max_batch_size=3) as engine,
        ThreadPoolExecutor(8) as pool,
    ):
        results = list(
            pool.map(lambda i: engine.generate([5, 6 + i], max_tokens=20, **GREEDY), range(8))
        )
        alone = [engine.generate([5, 6 + i], max_tokens=20, **GREEDY) for i in range(8)]
    assert [r.token_ids for r in results] == [a.token_ids for a in alone]
    assert max(step.sequences for step in recorder.of(BatchStepped)) <= 3


@pytest.mark.parametrize("size", [1, 2])
def test_small_batches_starve_nobody(tmp_path: Path, size: int, backend: str) -> None:
    with (
        tiny_engine(tmp_path, backend=backend, max_batch_size=size) as engine,
        ThreadPoolExecutor(5) as pool,
    ):
        jobs = [
            pool.submit(engine.generate, [5 + i] * 70, max_tokens=9, **GREEDY) for i in range(5)
        ]
        assert {job.result(60).stop_reason for job in jobs} == {StopReason.MAX_TOKENS}


def test_a_long_prompt_does_not_hold_up_a_running_stream(
    tmp_path: Path, recorder: Recorder
) -> None:
    """Its prompt is computed in small pieces, each in a step that decodes for the others too."""
    pytest.importorskip("numba")
    options = {"exporters": [recorder], "backend": "numba", "prefill_budget": 16}
    with tiny_engine(tmp_path, **options) as engine, ThreadPoolExecutor(1) as pool:
        stream = engine.stream("the", max_tokens=100, max_buffered_tokens=100, **GREEDY)
        next(stream)
        long = pool.submit(engine.generate, LONG, max_tokens=1, **GREEDY)
        list(stream)
        long.result(30)
    shared = [s for s in recorder.of(BatchStepped) if s.prefill_tokens and s.decode_tokens]
    assert shared
    assert max(step.prefill_tokens for step in shared) <= 16


def test_a_prompt_alone_is_computed_in_one_piece(engine: Engine, recorder: Recorder) -> None:
    engine.generate(LONG, max_tokens=2, **GREEDY)
    assert [s.prefill_tokens for s in recorder.of(BatchStepped)] == [len(LONG), 0]


def test_requests_wait_in_the_order_of_arrival(tmp_path: Path, recorder: Recorder) -> None:
    order = admitted_order(tmp_path, recorder, [0, 0, 0, 0])
    assert order == [0, 1, 2, 3]


def test_higher_priorities_go_first(tmp_path: Path, recorder: Recorder) -> None:
    order = admitted_order(tmp_path, recorder, [0, -10, 10, 10, 0])
    assert order == [2, 3, 0, 4, 1]


def admitted_order(tmp_path: Path, recorder: Recorder, priorities: list[int]) -> list[int]:
    """The order in which requests with these priorities are admitted, after one that runs."""
    with (
        tiny_engine(tmp_path, exporters=[recorder], max_concurrent_requests=1) as engine,
        ThreadPoolExecutor(8) as pool,
    ):
        running = engine.stream("the", max_tokens=50, **GREEDY)
        next(running)
        jobs = []
        for number, priority in enumerate(priorities):
            jobs.append(
                pool.submit(
                    engine.generate,
                    "the",
                    max_tokens=1,
                    priority=priority,
                    request_id=str(number),
                    **GREEDY,
                )
            )
            wait_until(lambda: engine.stats().queue_depth == len(jobs))
        running.close()
        for job in jobs:
            job.result(30)
    assert len(recorder.of(RequestQueued)) == len(priorities) + 1
    ids = [event.correlation.request_id for event in recorder.of(RequestAdmitted)]
    return [int(name) for name in ids[1:]]


def test_an_impossible_option_fails_its_own_request_only(engine: Engine) -> None:
    leave, hold = held(engine)
    with ThreadPoolExecutor(1) as pool:
        good = pool.submit(engine.generate, "the", max_tokens=20, on_token=hold, **GREEDY)
        with pytest.raises(ConfigError, match="logit_bias") as caught:
            engine.generate("the", logit_bias={10**6: 1.0})
        leave.set()
        assert good.result(30).stop_reason is StopReason.MAX_TOKENS
    assert caught.value.details["result"].stop_reason is StopReason.ERROR


@pytest.mark.parametrize("kind", ["raises", "nan"])
def test_a_step_that_fails_costs_only_the_request_that_is_at_fault(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    poison = 200
    runner = engine.model.runner
    forward = type(runner).forward

    def broken(self: object, chunks: list, **kwargs: object) -> list:
        bad = [int(chunk.token_ids[0]) == poison for chunk in chunks]
        if any(bad) and kind == "raises":
            raise RuntimeError("poisoned")
        answers = forward(self, chunks, **kwargs)
        nan = np.full(engine.model.spec.vocab_size, np.nan, np.float32)
        return [nan if b else a for a, b in zip(answers, bad, strict=True)]

    expected = [engine.generate([5, 6 + i], max_tokens=12, **GREEDY).token_ids for i in range(3)]
    monkeypatch.setattr(type(runner), "forward", broken)
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(engine.generate, [5, 6 + i], max_tokens=12, **GREEDY) for i in range(3)]
        bad = pool.submit(engine.generate, [poison, 7], max_tokens=12, **GREEDY)
        with pytest.raises(RuntimeError if kind == "raises" else InferenceError):
            bad.result(30)
        assert [job.result(30).token_ids for job in good] == expected
    assert engine.generate([5, 6], max_tokens=12, **GREEDY).token_ids == expected[0]
    assert balanced(engine)


def test_a_callback_that_blocks_holds_up_its_own_request_only(engine: Engine) -> None:
    leave, hold = held(engine)
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(engine.generate, "the", max_tokens=5, on_token=hold, **GREEDY)
        for _ in range(3):
            assert engine.generate("the", max_tokens=5, **GREEDY).usage.completion_tokens == 5
        assert not blocked.done()
        leave.set()
        assert blocked.result(30).usage.completion_tokens == 5


def test_a_reader_that_stays_away_gives_its_place_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "STALL_NS", 0)
    with tiny_engine(tmp_path, max_concurrent_requests=1) as engine:
        stream = engine.stream("the", max_tokens=5, **GREEDY)
        next(stream)
        assert engine.generate("and", max_tokens=3, **GREEDY).usage.completion_tokens == 3
        assert len(list(stream)) == 4


def test_a_full_buffer_can_drop_the_request(engine: Engine, recorder: Recorder) -> None:
    stream = engine.stream(
        "the", max_tokens=50, max_buffered_tokens=2, backpressure="drop_request", **GREEDY
    )
    wait_until(lambda: stream.result is not None)
    with pytest.raises(BackpressureError) as caught:
        next(stream)
    assert (caught.value.details["depth"], caught.value.details["limit"]) == (2, 2)
    assert caught.value.details["result"] is stream.result
    assert stream.result.stop_reason is StopReason.BACKPRESSURE_BUFFER_FULL
    assert len(stream.result.token_ids) == 3
    assert next(stream, None) is None
    assert recorder.of(InferenceStopped)[-1].error_type == "BackpressureError"


def test_draining_lets_requests_end_and_takes_no_more(engine: Engine) -> None:
    leave, hold = held(engine)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(engine.generate, "the", max_tokens=5, on_token=hold, **GREEDY)
        wait_until(lambda: engine.stats().paused == 1)
        assert not engine.drain(0.01)
        with pytest.raises(ClosedError):
            engine.generate("the")
        leave.set()
        assert engine.drain(30)
        assert running.result(30).stop_reason is StopReason.MAX_TOKENS


def test_closing_ends_requests_and_the_thread(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(engine.generate, [5], max_tokens=250, **GREEDY) for _ in range(3)]
        wait_until(lambda: engine.stats().running == 3)
        engine.close()
        reasons = {job.result(30).stop_reason for job in jobs}
    assert reasons <= {StopReason.CANCELLED_BY_CALLER, StopReason.MAX_TOKENS}
    assert not [t for t in threading.enumerate() if t.name == "smallmind-scheduler"]
    assert balanced(engine)


def test_an_idle_thread_ends_and_the_next_request_starts_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "IDLE_S", 0.01)
    with tiny_engine(tmp_path) as engine:
        first = engine.generate("the", max_tokens=3, **GREEDY)
        wait_until(lambda: engine._core.scheduler._thread is None)
        assert engine.generate("the", max_tokens=3, **GREEDY).token_ids == first.token_ids


def test_an_engine_whose_scheduler_fails_ends_its_requests_and_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ZeroDivisionError

    expected = engine.generate("the", max_tokens=3, **GREEDY).token_ids
    with monkeypatch.context() as patch:
        patch.setattr(engine._core.scheduler, "_note_step", failing)
        with pytest.raises(InferenceError, match="ZeroDivisionError"):
            engine.generate("the", max_tokens=3, **GREEDY)
    assert engine.generate("the", max_tokens=3, **GREEDY).token_ids == expected


def test_every_request_ends_once_and_gives_back_what_it_took(
    tmp_path: Path, recorder: Recorder, backend: str
) -> None:
    options = {"exporters": [recorder], "backend": backend, "max_queue_depth": 2}
    with (
        tiny_engine(tmp_path, max_concurrent_requests=2, **options) as engine,
        ThreadPoolExecutor(12) as pool,
    ):
        jobs = [
            pool.submit(engine.generate, LONG[: 20 + 10 * i], max_tokens=4, **GREEDY)
            for i in range(12)
        ]
        turned_away = sum(isinstance(job.exception(60), BackpressureError) for job in jobs)
        stats = engine.stats()
        assert stats.rejected == turned_away
        assert stats.submitted == 12 - turned_away
        assert balanced(engine)
    stops = [event.correlation.request_id for event in recorder.of(InferenceStopped)]
    assert len(stops) == len(set(stops)) == 12
    assert balanced(engine)
    assert engine.stats().kv_blocks_used == 0


def balanced(engine: Engine) -> bool:
    stats = engine.stats()
    assert stats.kv_blocks_rented - stats.kv_blocks_returned == stats.kv_blocks_used
    return (
        stats.submitted == stats.ended
        and stats.running == stats.queue_depth == 0
        and stats.kv_blocks_used == stats.prefix_blocks_idle == stats.prefix_blocks
    )


def test_ledgers_add_up_in_a_batch(engine: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda i: engine.generate([5 + i], max_tokens=40, **GREEDY), range(4))
        )
    for result in results:
        timings = result.timings
        assert sum(timings.ledger.values()) == pytest.approx(timings.total_s)
        assert timings.attributed_share >= 0.95


def test_a_request_that_was_refused_names_its_reason_in_the_result(engine: Engine) -> None:
    with pytest.raises(SmallMindError) as caught:
        engine.generate("x" * 1000)
    assert caught.value.details["result"].stop_reason is StopReason.ERROR
    assert engine.stats().submitted == 0


def test_a_pause_for_a_full_buffer_is_told_once(engine: Engine, recorder: Recorder) -> None:
    with engine.stream("the", max_tokens=30, max_buffered_tokens=2, **GREEDY) as stream:
        for _ in range(3):
            wait_until(lambda: engine.stats().paused == 1)
            next(stream)
        list(stream)
    told = recorder.of(BackpressureApplied)
    assert [(event.policy, event.depth, event.limit) for event in told] == [("block", 2, 2)]


def test_an_inline_exporter_cannot_wait_for_its_own_engine(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    class Asking(Recorder):
        def export(self, event: object, /) -> None:
            if isinstance(event, InferenceStopped) and not caught:
                caught.append(ZeroDivisionError())
                try:
                    engine.generate("and", max_tokens=1)
                except InferenceError as error:
                    caught.append(error)

    with tiny_engine(tmp_path, exporters=[Asking()]) as engine:
        assert engine.generate("the", max_tokens=2, **GREEDY).usage.completion_tokens == 2
    assert "inline = False" in str(caught[-1])
