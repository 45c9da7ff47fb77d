"""A burst of requests begins together: its first step waits for those that are being prepared."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engines import Recorder
from smallmind import Engine
from smallmind_engine.runtime import admission, gathering
from smallmind_engine.telemetry import BatchStepped
from smallmind_engine.telemetry.errors import ConfigError

GREEDY = {"temperature": 0.0, "ignore_eos": True}
LONG_S = 3600.0
PATIENCE_S = 60.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for longer than any test takes."""
    monkeypatch.setattr(gathering, "_NEXT_S", LONG_S)
    monkeypatch.setattr(gathering, "_BURST_S", LONG_S)
    monkeypatch.setattr(admission, "_SOON_NS", int(LONG_S * 1e9))


def held_back(engine: Engine, monkeypatch: pytest.MonkeyPatch, wait: Callable[[str], Any]) -> None:
    """Call ``wait`` with each prompt before it is tokenized."""
    encode = engine.model.tokenizer.encode

    def waiting(text: str, **kwargs: Any) -> list[int]:
        wait(text)
        return encode(text, **kwargs)

    monkeypatch.setattr(engine.model.tokenizer, "encode", waiting)


@pytest.mark.usefixtures("patient")
def test_requests_that_are_prepared_at_once_begin_in_one_step(
    engine: Engine, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(4)
    held_back(engine, monkeypatch, lambda _: together.wait(PATIENCE_S))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda text: engine.generate(text, max_tokens=10, **GREEDY), "abcd"))
    assert [step.sequences for step in recorder.of(BatchStepped)] == [4] * 10


@pytest.mark.usefixtures("patient")
def test_a_single_request_waits_for_nobody(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(engine.generate, "a", max_tokens=2, **GREEDY)
        assert len(made.result(PATIENCE_S).token_ids) == 2


@pytest.mark.usefixtures("patient")
def test_who_prepares_for_long_is_not_waited_for(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "_SOON_NS", 0)
    begun, go_on = threading.Event(), threading.Event()

    def wait(text: str) -> None:
        if text == "slow":
            begun.set()
            go_on.wait(PATIENCE_S)

    held_back(engine, monkeypatch, wait)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(engine.generate, "slow", max_tokens=2, **GREEDY)
        assert begun.wait(PATIENCE_S)
        quick = pool.submit(engine.generate, "a", max_tokens=2, **GREEDY)
        assert len(quick.result(PATIENCE_S).token_ids) == 2
        assert not slow.done()
        go_on.set()
        assert len(slow.result(PATIENCE_S).token_ids) == 2


@pytest.mark.usefixtures("patient")
def test_who_was_refused_while_preparing_is_not_waited_for(engine: Engine) -> None:
    with pytest.raises(ConfigError):
        engine.generate([], max_tokens=2, **GREEDY)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(engine.generate, "a", max_tokens=2, **GREEDY)
        assert len(made.result(PATIENCE_S).token_ids) == 2


def test_a_burst_whose_next_request_does_not_come_begins_without_it() -> None:
    notes: gathering.Notes = queue.SimpleQueue()
    for note in ("first", None, "second"):
        notes.put(note)  # type: ignore[arg-type]
    received: list[object] = []
    gathering.gather_burst(lambda: True, notes, received.append)
    assert received == ["first", "second"]


def test_a_burst_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_NEXT_S", LONG_S)
    notes: gathering.Notes = queue.SimpleQueue()
    notes.put("one")  # type: ignore[arg-type]
    gathering.gather_burst(lambda: True, notes, notes.put)  # there is always one more
    assert not notes.empty()
