"""Work that cannot be stopped is left behind; forks wait for it."""

from __future__ import annotations

import contextvars
import os
import threading
import time

import pytest

from smallmind_engine.control import CancellationToken, ForkGate, WorkLimit, run_or_leave
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import OperationCancelledError

NAME = "hard work"
WAIT_S = 10.0


def left_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith(NAME)]


def join_all() -> None:
    for thread in left_threads():
        thread.join(WAIT_S)
    assert left_threads() == []


def test_unlimited_work_runs_where_it_is_called() -> None:
    assert run_or_leave(threading.get_ident, WorkLimit(), NAME) == threading.get_ident()


def test_limited_work_runs_in_a_thread_and_gives_its_result() -> None:
    token = CancellationToken()
    ident = run_or_leave(threading.get_ident, WorkLimit(token), NAME)
    assert ident != threading.get_ident()
    assert token._callbacks == []
    join_all()


def test_the_context_comes_along() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(5)
    assert run_or_leave(variable.get, WorkLimit(CancellationToken()), NAME) == 5


def test_an_error_of_the_work_comes_through() -> None:
    def fail() -> None:
        raise LookupError(NAME)

    for limit in (WorkLimit(), WorkLimit(CancellationToken())):
        with pytest.raises(LookupError, match=NAME):
            run_or_leave(fail, limit, NAME)


def test_a_cancelled_caller_goes_at_once_and_the_work_ends_by_itself() -> None:
    token, begun, go_on = CancellationToken(), threading.Event(), threading.Event()
    fruits: list[str] = []

    def work() -> None:
        begun.set()
        assert go_on.wait(WAIT_S)
        fruits.append("ripe")

    def cancel() -> None:
        assert begun.wait(WAIT_S)
        token.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(OperationCancelledError, match=NAME) as caught:
        run_or_leave(work, WorkLimit(token), NAME)
    assert caught.value.reason is ReasonCode.CANCELLED_BY_CALLER
    assert (len(left_threads()), fruits, token._callbacks) == (1, [], [])
    go_on.set()
    canceller.join(WAIT_S)
    join_all()
    assert fruits == ["ripe"]


def test_a_deadline_ends_the_waiting() -> None:
    go_on = threading.Event()
    begin = time.perf_counter()
    with pytest.raises(OperationCancelledError) as caught:
        run_or_leave(lambda: go_on.wait(WAIT_S), WorkLimit.within(0.05), NAME)
    assert caught.value.reason is ReasonCode.CANCELLED_BY_TIMEOUT
    assert time.perf_counter() - begin < WAIT_S / 2
    go_on.set()
    join_all()


def test_cancelled_work_is_not_even_begun() -> None:
    token = CancellationToken()
    token.cancel()
    done: list[int] = []
    with pytest.raises(OperationCancelledError):
        run_or_leave(lambda: done.append(1), WorkLimit(token), NAME)
    assert done == []


def test_a_fork_waits_for_the_work_of_other_threads() -> None:
    gate, begun, go_on = ForkGate(), threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with gate.held():
            begun.set()
            assert go_on.wait(WAIT_S)
            order.append("worked")

    def fork() -> None:
        gate.before_fork()
        order.append("forked")
        gate.after_in_parent()

    worker, forker = threading.Thread(target=work), threading.Thread(target=fork)
    worker.start()
    assert begun.wait(WAIT_S)
    forker.start()
    go_on.set()
    for thread in (worker, forker):
        thread.join(WAIT_S)
    assert order == ["worked", "forked"]


def test_work_waits_for_a_fork_but_for_that_of_its_own_thread() -> None:
    gate = ForkGate()
    order: list[str] = []

    def work() -> None:
        with gate.held():
            order.append("worked")

    worker = threading.Thread(target=work)
    with gate.held():
        gate.before_fork()
        worker.start()
        with gate.held():
            order.append("went on")
        order.append("forked")
        gate.after_in_parent()
    worker.join(WAIT_S)
    assert order == ["went on", "forked", "worked"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_during_the_work_of_another_thread_can_work_itself() -> None:
    token, begun = CancellationToken(), threading.Event()
    lock = threading.Lock()

    def work() -> None:
        with lock:
            begun.set()
            token.cancel()
            time.sleep(0.05)  # holds the lock while the main thread comes to fork

    with pytest.raises(OperationCancelledError):
        run_or_leave(work, WorkLimit(token), NAME)
    assert begun.is_set()
    child = os.fork()
    if child == 0:  # pragma: no cover - the child
        free = run_or_leave(lambda: lock.acquire(blocking=False), WorkLimit.within(5.0), NAME)
        os._exit(0 if free else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    join_all()
