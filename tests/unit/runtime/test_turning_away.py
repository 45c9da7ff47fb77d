"""Who is turned away is turned away early, and the end of each request is told before the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines import Recorder, tiny_engine
from smallmind import Engine, StopReason
from smallmind_engine.runtime.arrivals import Arrivals
from smallmind_engine.telemetry import (
    EmbeddingEnded,
    InferenceStopped,
    RequestQueued,
    RequestRejected,
    RuntimeLogEvent,
)
from smallmind_engine.telemetry.errors import (
    BackpressureError,
    ClosedError,
    OperationCancelledError,
)

GREEDY = {"temperature": 0.0, "ignore_eos": True}


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine], list[str]]:
    """Notes the texts that an engine's tokenizer is given."""

    def spy(engine: Engine) -> list[str]:
        tokenizer, seen = engine.model.tokenizer, []
        encode = tokenizer.encode

        def noting(text: str, **kwargs: Any) -> list[int]:
            seen.append(text)
            return encode(text, **kwargs)

        monkeypatch.setattr(tokenizer, "encode", noting)
        return seen

    return spy


def test_a_full_queue_is_seen_before_the_prompt_is_read(
    tmp_path: Path, recorder: Recorder, spied: Callable[[Engine], list[str]]
) -> None:
    options = {"max_concurrent_requests": 1, "max_queue_depth": 0, "exporters": [recorder]}
    with tiny_engine(tmp_path, **options) as engine:
        running = engine.stream("the", max_tokens=50, **GREEDY)
        next(running)
        seen = spied(engine)
        with pytest.raises(BackpressureError) as caught:
            engine.generate("turn me away", **GREEDY)
        assert seen == []
        running.close()
        assert engine.stats().rejected == 1
        engine.generate("the", max_tokens=1, **GREEDY)
        assert seen == ["the"]
    result = caught.value.details["result"]
    assert result.stop_reason is StopReason.BACKPRESSURE_QUEUE_FULL
    mine = [
        type(event)
        for event in recorder.events
        if event.correlation.request_id == result.correlation.request_id
    ]
    assert mine.index(RequestQueued) < mine.index(RequestRejected) < mine.index(InferenceStopped)


@pytest.mark.parametrize("work", ["embed", "score", "perplexity"])
def test_other_work_is_turned_away_before_its_texts_are_read(
    tmp_path: Path, spied: Callable[[Engine], list[str]], work: str
) -> None:
    arguments = {"embed": ("the",), "score": ("the", " and"), "perplexity": ("the and the",)}
    with tiny_engine(tmp_path, max_concurrent_requests=1, max_queue_depth=0) as engine:
        seen: list[str] = []

        def on_progress(done: int, total: int) -> None:
            seen.extend(spied(engine))
            with pytest.raises(BackpressureError):
                getattr(engine, work)(*arguments[work])

        engine.embed("the", on_progress=on_progress)
        assert seen == []


class Slow:
    """A tokenizer's ``encode`` that waits until it is let go, and then heeds its limit."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._encode = engine.model.tokenizer.encode
        monkeypatch.setattr(engine.model.tokenizer, "encode", self)

    def __call__(self, text: str, **kwargs: Any) -> list[int]:
        self.begun.set()
        self.go_on.wait(30)
        kwargs.pop("limit", None)
        return self._encode(text, **kwargs)


def _closing(engine: Engine, slow: Slow, work: Callable[[], object]) -> BaseException | object:
    """Close an engine while its tokenizer is at work for somebody; what the work came to."""
    ended: list[BaseException | object] = []

    def run() -> None:
        try:
            ended.append(work())
        except (ClosedError, OperationCancelledError) as error:
            ended.append(error)

    caller = threading.Thread(target=run)
    caller.start()
    assert slow.begun.wait(30)
    closer = threading.Thread(target=engine.close)
    closer.start()
    while not engine._core.closed:
        threading.Event().wait(0.001)
    # It is closed to newcomers, but the bus is not, as long as someone has an end to tell.
    closer.join(0.05)
    assert closer.is_alive()
    slow.go_on.set()
    caller.join(30)
    closer.join(30)
    return ended[0]


def test_a_request_that_comes_while_the_engine_closes_still_tells_its_end(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tiny_engine(tmp_path, exporters=[recorder])
    slow = Slow(engine, monkeypatch)
    failure = _closing(engine, slow, lambda: engine.generate("the", **GREEDY))
    assert isinstance(failure, ClosedError)
    (stopped,) = recorder.of(InferenceStopped)
    assert (stopped.reason, stopped.error_type) == (StopReason.ERROR, "ClosedError")
    result = failure.details["result"]
    assert stopped.correlation.request_id == result.correlation.request_id


@pytest.mark.parametrize("work", ["embed", "score"])
def test_other_work_that_comes_while_the_engine_closes_tells_its_end(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    engine = tiny_engine(tmp_path, exporters=[recorder])
    slow = Slow(engine, monkeypatch)
    call = {"embed": lambda: engine.embed("the"), "score": lambda: engine.score("the", " and")}
    failure = _closing(engine, slow, call[work])
    assert isinstance(failure, ClosedError | OperationCancelledError)
    if work == "embed":
        assert len(recorder.of(EmbeddingEnded)) == 1
    else:
        (line,) = [e for e in recorder.of(RuntimeLogEvent) if e.message == "scoring ended"]
        assert line.error in {"ClosedError", "OperationCancelledError"}


def test_a_stream_that_was_not_begun_does_not_hold_up_the_end(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    engine.stream("the")
    engine.close()
    assert engine._core.arrivals.wait(0)


def test_who_waits_does_not_wait_for_himself() -> None:
    arrivals = Arrivals()
    with arrivals.held(), arrivals.held():
        assert arrivals.wait(0)
        others: list[bool] = []
        thread = threading.Thread(target=lambda: others.append(arrivals.wait(0)))
        thread.start()
        thread.join()
    assert others == [False]
    assert arrivals.wait(0)


def test_newcomers_do_not_hold_up_who_waits() -> None:
    """Callers who are turned away and ask again at once are inside at every moment."""
    arrivals = Arrivals()
    inside, leave, come = threading.Event(), threading.Event(), threading.Event()

    def relay() -> None:
        with arrivals.held():
            inside.set()
            leave.wait(30)
            newcomer = threading.Thread(target=stay)
            newcomer.start()
            come.wait(30)

    gone = threading.Event()

    def stay() -> None:
        with arrivals.held():
            come.set()
            gone.wait(30)

    first = threading.Thread(target=relay)
    first.start()
    assert inside.wait(30)
    waited: list[bool] = []
    waiter = threading.Thread(target=lambda: waited.append(arrivals.wait(30)))
    waiter.start()
    while not arrivals._changed._waiters:
        threading.Event().wait(0.001)
    leave.set()
    waiter.join(30)
    assert waited == [True]
    assert not arrivals.wait(0), "the newcomer is still inside"
    gone.set()
    first.join()
    assert arrivals.wait(30)


def test_callers_go_through_the_turnstile_one_by_one() -> None:
    arrivals, inside, most = Arrivals(), [], []

    def go() -> None:
        with arrivals.one_by_one(crowded=True):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=go) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_the_turnstile_holds_nobody_up_for_long() -> None:
    arrivals, passed = Arrivals(), threading.Event()

    def go() -> None:
        with arrivals.one_by_one(crowded=True):
            passed.set()

    with arrivals.one_by_one(crowded=True):
        thread = threading.Thread(target=go)
        thread.start()
        assert passed.wait(30.0)
        thread.join()


def test_a_caller_may_come_to_the_turnstile_again_inside() -> None:
    arrivals = Arrivals()
    with arrivals.one_by_one(crowded=True), arrivals.one_by_one(crowded=True):
        arrivals.begin_in_child()


def test_a_crowd_is_turned_away_each_with_an_answer(tmp_path: Path) -> None:
    options = {"max_concurrent_requests": 1, "max_queue_depth": 1}
    with tiny_engine(tmp_path, **options) as engine:
        running = engine.stream("the", max_tokens=50, **GREEDY)
        next(running)
        waiting = engine.stream("the", max_tokens=1, **GREEDY)
        begun = threading.Thread(target=lambda: list(waiting))
        begun.start()
        while engine.stats().queue_depth < 1:
            pass
        answers: list[object] = []

        def ask() -> None:
            with pytest.raises(BackpressureError) as caught:
                engine.generate("turn me away", **GREEDY)
            answers.append(caught.value.details["result"].stop_reason)

        crowd = [threading.Thread(target=ask) for _ in range(30)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        running.close()
        begun.join()
    assert answers == [StopReason.BACKPRESSURE_QUEUE_FULL] * 30


def test_neither_single_callers_nor_event_loops_wait_at_the_turnstile() -> None:
    arrivals, passed = Arrivals(), threading.Event()

    async def in_loop() -> None:
        with arrivals.one_by_one(crowded=True):
            passed.set()

    def alone() -> None:
        with arrivals.one_by_one(crowded=False):
            asyncio.run(in_loop())

    with arrivals.one_by_one(crowded=True):
        thread = threading.Thread(target=alone)
        begin = time.perf_counter()
        thread.start()
        thread.join()
        assert passed.is_set()
        assert time.perf_counter() - begin < 1.9  # less than the patience at the turnstile
