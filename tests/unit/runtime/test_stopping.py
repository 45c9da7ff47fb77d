"""Every way to stop a request takes effect within a step, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind import CancellationToken, Engine, StopReason
from smallmind_engine.telemetry import InferenceStopped

GREEDY = {"temperature": 0.0, "ignore_eos": True}
LONG = {"max_tokens": 250, **GREEDY}


@pytest.fixture
def engine(tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    with tiny_engine(tmp_path, exporters=[recorder]) as engine:
        yield engine
        wait_until(lambda: engine.stats().ended == engine.stats().submitted)
        stats = engine.stats()
        assert stats.kv_blocks_used == stats.prefix_blocks_idle


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(20_000):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError(condition)


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_a_request_in_the_queue_ends_at_once(tmp_path: Path, recorder: Recorder, how: str) -> None:
    with (
        tiny_engine(tmp_path, exporters=[recorder], max_concurrent_requests=1) as engine,
        ThreadPoolExecutor(1) as pool,
    ):
        running = engine.stream("the", **LONG)
        next(running)
        token = CancellationToken()
        timeout = 0.05 if how == "timeout" else None
        waiting = pool.submit(
            engine.generate, "and", cancellation=token, request_timeout=timeout, **GREEDY
        )
        if how == "cancel":
            wait_until(lambda: engine.stats().queue_depth == 1)
            token.cancel()
        result = waiting.result(30)
        assert engine.stats().queue_depth == 0
        assert running.result is None
    expected = {
        "cancel": StopReason.CANCELLED_BY_CALLER,
        "timeout": StopReason.CANCELLED_BY_TIMEOUT,
    }
    assert (result.stop_reason, result.text) == (expected[how], "")


def test_a_deadline_passes_while_the_reader_is_away(engine: Engine) -> None:
    with engine.stream("the", request_timeout=0.1, **LONG) as stream:
        next(stream)
        wait_until(lambda: stream.result is not None)
        assert stream.result.stop_reason is StopReason.CANCELLED_BY_TIMEOUT
        assert list(stream) == []


def test_a_token_cancels_while_the_reader_is_away(engine: Engine) -> None:
    token = CancellationToken()
    with engine.stream("the", cancellation=token, **LONG) as stream:
        first = next(stream)
        token.cancel()
        wait_until(lambda: stream.result is not None)
        assert stream.result.token_ids == (first.token_id,)
        assert stream.result.stop_reason is StopReason.CANCELLED_BY_CALLER


def test_what_was_buffered_can_be_read_after_a_cancellation(engine: Engine) -> None:
    token = CancellationToken()
    with engine.stream("the", cancellation=token, max_buffered_tokens=5, **LONG) as stream:
        wait_until(lambda: engine.stats().paused == 1)
        token.cancel()
        wait_until(lambda: stream.result is not None)
        chunks = [chunk for chunk in stream if chunk.token_id is not None]
    assert tuple(chunk.token_id for chunk in chunks) == stream.result.token_ids
    assert len(chunks) == 5


@pytest.mark.parametrize("buffered", [None, 4])
def test_a_stream_that_is_dropped_ends(
    engine: Engine, recorder: Recorder, buffered: int | None
) -> None:
    stream = engine.stream("the", max_buffered_tokens=buffered, **LONG)
    next(stream)
    del stream
    gc.collect()
    wait_until(lambda: engine.stats().running == 0)
    assert recorder.of(InferenceStopped)[-1].reason is StopReason.CANCELLED_BY_CALLER


def test_a_stream_in_a_cycle_of_garbage_ends(engine: Engine, recorder: Recorder) -> None:
    holder: dict[str, object] = {"stream": engine.stream("the", **LONG)}
    holder["self"] = holder
    next(holder["stream"])  # type: ignore[call-overload]
    del holder
    gc.collect()
    wait_until(lambda: engine.stats().running == 0)
    assert recorder.of(InferenceStopped)[-1].reason is StopReason.CANCELLED_BY_CALLER


@pytest.mark.parametrize("way", ["generate", "stream"])
def test_an_interrupt_ends_the_request_and_keeps_its_text(
    engine: Engine, recorder: Recorder, way: str
) -> None:
    """As Ctrl-C does: a signal for the main thread while it waits."""
    main = threading.main_thread()
    assert main.ident is not None
    if threading.current_thread() is not main:
        pytest.skip("signals reach the main thread only")

    def press() -> None:
        wait_until(lambda: engine.stats().decode_tokens > 3)
        signal.pthread_kill(main.ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    presser = threading.Thread(target=press)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:  # noqa: PT012 - it may come at any moment
            presser.start()
            for _ in range(1000):
                if way == "generate":
                    engine.generate("the", **LONG)
                else:
                    list(engine.stream("the", **LONG))
    finally:
        presser.join(30)
        signal.signal(signal.SIGINT, before)
    stopped = recorder.of(InferenceStopped)[-1]
    if stopped.error_type == "KeyboardInterrupt":  # it came while the request was under way
        assert stopped.reason is StopReason.CANCELLED_BY_CALLER
        assert caught.value.result.correlation == stopped.correlation
        assert engine.detokenize(caught.value.result.token_ids).startswith(
            caught.value.result.text.rstrip("\ufffd")
        )


def test_a_cancelled_task_that_awaits_the_queue_leaves_it(
    tmp_path: Path, recorder: Recorder
) -> None:
    async def main(engine: Engine) -> None:
        running = engine.stream("the", **LONG)
        next(running)
        task = asyncio.create_task(engine.agenerate("and", **LONG))
        await asyncio.to_thread(wait_until, lambda: engine.stats().queue_depth == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.stats().queue_depth == 0

    with tiny_engine(tmp_path, exporters=[recorder], max_concurrent_requests=1) as engine:
        asyncio.run(main(engine))
    assert recorder.of(InferenceStopped)[0].reason is StopReason.CANCELLED_BY_CALLER


def test_many_tasks_need_no_thread_each(engine: Engine) -> None:
    async def main() -> set[str]:
        results = await asyncio.gather(
            *(engine.agenerate("the", max_tokens=20, **GREEDY) for _ in range(40))
        )
        return {result.text for result in results}

    assert len(asyncio.run(main())) == 1


def test_errors_of_a_callback_come_through_asyncio(engine: Engine, recorder: Recorder) -> None:
    def on_token(chunk: object) -> None:
        raise KeyError("mine")

    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            await engine.agenerate("the", on_token=on_token, **LONG)
        with pytest.raises(KeyError, match="mine"):
            async for _ in engine.astream("the", on_token=on_token, **LONG):
                pass

    asyncio.run(main())
    assert [e.error_type for e in recorder.of(InferenceStopped)] == ["KeyError"] * 2


def test_cancellation_is_quick_at_any_moment(engine: Engine) -> None:
    """From ``cancel`` to the return of the call, over a spread of moments of a busy engine."""
    lags: list[float] = []
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            engine.generate([5] * 200, max_tokens=20, **GREEDY)

    def one(number: int) -> None:
        token = CancellationToken()
        pressed: list[float] = []

        def press() -> None:
            pressed.append(time.perf_counter())
            token.cancel()

        timer = threading.Timer(0.0005 * (number % 17), press)
        timer.start()
        result = engine.generate([6] * 150, cancellation=token, **LONG)
        if result.stop_reason is StopReason.CANCELLED_BY_CALLER:
            lags.append(time.perf_counter() - pressed[0])
        timer.join()

    others = [threading.Thread(target=busy) for _ in range(2)]
    for other in others:
        other.start()
    for number in range(40):
        one(number)
    stop.set()
    for other in others:
        other.join(30)
    assert len(lags) > 10
    assert statistics.median(lags) < 0.05


def test_a_long_prefill_is_left_between_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the other prompts of the step are computed again."""
    pytest.importorskip("numba")
    with tiny_engine(tmp_path, backend="numba") as engine, ThreadPoolExecutor(2) as pool:
        expected = engine.generate([5] * 90, max_tokens=4, **GREEDY).token_ids
        runner = engine.model.runner
        forward = type(runner).forward
        token = CancellationToken()
        checks: list[int] = []

        def cancelling(self: object, chunks: list, limit: object, **kwargs: object) -> object:
            if sum(len(chunk.token_ids) for chunk in chunks) > 64 and not token.is_cancelled:
                checks.append(len(chunks))
                token.cancel()
                limit.check("between layers")
            return forward(self, chunks, limit=limit, **kwargs)

        monkeypatch.setattr(type(runner), "forward", cancelling)
        cancelled = pool.submit(engine.generate, [6] * 150, cancellation=token, **LONG)
        other = pool.submit(engine.generate, [7, *[5] * 20], max_tokens=4, **GREEDY)
        result = cancelled.result(30)
        assert result.stop_reason is StopReason.CANCELLED_BY_CALLER
        assert result.timings.prefill_tokens == 0
        assert other.result(30).stop_reason is StopReason.MAX_TOKENS
        assert engine.generate([5] * 90, max_tokens=4, **GREEDY).token_ids == expected
        assert len(checks) == 1


def test_a_callback_that_fails_after_its_task_was_cancelled_leaves_no_complaint(
    engine: Engine,
) -> None:
    """asyncio complains of errors that nobody has seen; the caller went away before this one."""
    inside, leave = threading.Event(), threading.Event()
    complaints: list[dict[str, object]] = []

    def on_token(chunk: object) -> None:
        inside.set()
        leave.wait(30)
        raise KeyError("too late")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        task = asyncio.create_task(engine.agenerate("the", on_token=on_token, **LONG))
        await asyncio.to_thread(inside.wait, 30)
        task.cancel()
        loop.call_later(0.01, leave.set)
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()

    asyncio.run(main())
    assert complaints == []
