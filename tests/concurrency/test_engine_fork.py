"""Two processes by fork after load: both generate, and each tells of its own requests only."""

from __future__ import annotations

import json
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines import Recorder, tiny_engine
from smallmind import Engine
from smallmind.structured import Regex
from smallmind_engine.telemetry import InferenceStopped, RequestQueued
from smallmind_engine.telemetry.errors import ClosedError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 12}
TIME_LIMIT_S = 30
SYSTEM = [3 + i * 11 % 250 for i in range(100)]


@pytest.fixture(params=["numba", "numpy"])
def engine(request: pytest.FixtureRequest, tmp_path: Path, recorder: Recorder) -> Iterator[Engine]:
    if request.param == "numba":
        pytest.importorskip("numba")
    with tiny_engine(tmp_path, exporters=[recorder], backend=request.param) as engine:
        yield engine


def in_child(work: Callable[[], object]) -> object:
    """What ``work`` answers in a forked child, as JSON."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of forking with threads, which is what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:  # pragma: no cover - another process
        signal.alarm(TIME_LIMIT_S)
        try:
            answer = json.dumps(work())
        except BaseException as error:  # noqa: BLE001 - told to the parent
            answer = json.dumps(f"{type(error).__name__}: {error}")
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = file.read()
    os.waitpid(pid, 0)
    return json.loads(answer)


def test_parent_and_child_both_generate(engine: Engine) -> None:
    expected = list(engine.generate([*SYSTEM, 5], **GREEDY).token_ids)

    def work() -> object:
        result = engine.generate([*SYSTEM, 5], **GREEDY)
        return list(result.token_ids)

    assert in_child(work) == expected
    assert list(engine.generate([*SYSTEM, 5], **GREEDY).token_ids) == expected
    assert in_child(work) == expected


def test_a_fork_in_the_midst_of_requests_leaves_both_at_work(
    engine: Engine, recorder: Recorder
) -> None:
    expected = list(engine.generate("the", **GREEDY).token_ids)
    stop = threading.Event()
    texts: set[str] = set()

    def busy() -> None:
        while not stop.is_set():
            texts.add(engine.generate([7] * 90, **GREEDY).text)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()

    def work() -> object:
        before = engine.stats().submitted
        ids = [list(engine.generate("the", **GREEDY).token_ids) for _ in range(2)]
        stats = engine.stats()
        return [ids, before, stats.submitted, stats.ended, stats.running]

    try:
        for _ in range(3):
            assert in_child(work) == [[expected, expected], 0, 2, 2, 0]
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert len(texts) == 1
    queued = [event.correlation.request_id for event in recorder.of(RequestQueued)]
    stopped = [event.correlation.request_id for event in recorder.of(InferenceStopped)]
    assert sorted(queued) == sorted(stopped)


def test_the_child_tells_of_its_own_requests_only(engine: Engine, recorder: Recorder) -> None:
    with engine.stream("and", **GREEDY) as stream:
        next(stream)
        mine = stream._run.correlation.request_id

        def work() -> object:
            recorder.events.clear()
            engine.generate("the", request_id="child", **GREEDY)
            return sorted({e.correlation.request_id for e in recorder.of(InferenceStopped)})

        before = len(recorder.events)
        assert in_child(work) == ["child"]
        assert len(recorder.events) == before
        list(stream)
    assert [e.correlation.request_id for e in recorder.of(InferenceStopped)] == [mine]


def test_a_stream_of_the_parent_cannot_be_read_in_the_child(engine: Engine) -> None:
    with engine.stream("the", **GREEDY) as stream:
        first = next(stream)

        def work() -> object:
            try:
                next(stream)
            except ClosedError as error:
                return str(error)
            return "read"

        assert "parent" in str(in_child(work))
        assert [first.token_id, *(c.token_id for c in stream if c.token_id is not None)] == list(
            engine.generate("the", **GREEDY).token_ids
        )


def test_a_session_goes_on_in_both(engine: Engine) -> None:
    with engine.session() as session:
        session.generate(SYSTEM, **GREEDY)
        history = list(session.token_ids)

        def work() -> object:
            result = session.generate([5], **GREEDY)
            return [list(result.token_ids), result.usage.cached_tokens]

        answer = in_child(work)
        mine = session.generate([5], **GREEDY)
    assert answer == [list(mine.token_ids), len(history) - 1]


@pytest.mark.parametrize("inline", [True, False])
def test_a_child_of_a_busy_engine_gives_back_what_lost_requests_held(
    tmp_path: Path, *, inline: bool
) -> None:
    """Whatever is told of that goes through queues whose locks were the parent's, and are new."""
    pytest.importorskip("numba")
    recorder = Recorder()
    recorder.inline = inline
    with tiny_engine(tmp_path, exporters=[recorder], backend="numba") as engine:
        streams = [engine.stream([5 + i] * 100, max_buffered_tokens=2, **GREEDY) for i in range(4)]
        for stream in streams:
            next(stream)
        subscription = engine.bus._state[0][0]
        for _ in range(10):
            with subscription._lock:  # as if an exporter's thread were in the midst of something
                assert in_child(lambda: used_by_requests(engine)) == 0
        for stream in streams:
            list(stream)


def test_two_threads_may_fork_at_once(engine: Engine) -> None:
    """Neither lets the scheduler go that the other has halted."""
    expected = engine.generate("the", **GREEDY).token_ids
    codes: list[int] = []

    def fork() -> None:
        codes.extend(quick_child() for _ in range(20))

    threads = [threading.Thread(target=fork) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert engine.generate("the", **GREEDY).token_ids == expected
    assert codes == [0] * 80


def used_by_requests(engine: Engine) -> int:
    """Blocks apart from those that are kept for prompts to come."""
    stats = engine.stats()
    return stats.kv_blocks_used - stats.prefix_blocks_idle


def quick_child() -> int:
    """The exit code of a child that does nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:  # pragma: no cover - another process
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_both_processes_hold_answers_to_grammars(engine: Engine) -> None:
    wanted = Regex("[a-z]{9}")

    def answer() -> list[int]:
        limits = {"seed": 4, "max_tokens": 20, "temperature": 1.0}
        return list(engine.generate("abc", response_format=wanted, **limits).token_ids)

    expected = answer()
    with ThreadPoolExecutor(2) as pool:  # compiles while the process forks
        busy = [
            pool.submit(engine.generate, "a", response_format=Regex(f"x{{{n}}}"), max_tokens=2)
            for n in range(1, 12)
        ]
        told = in_child(answer)
        for each in busy:
            each.result()
    assert told == expected == answer()
