"""The gate beside the scheduler: first come, first served; bounded; left when stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.runtime.work_gate import Visit, WorkGate
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import BackpressureError, ClosedError

NEVER = CancellationToken()


def wait_until_waiting(gate: WorkGate, count: int) -> None:
    deadline = WorkLimit.within(10.0)
    while gate.waiting != count:
        deadline.check("waiting for the queue")
        threading.Event().wait(0.001)


def visited(gate: WorkGate, told: Callable[[], None]) -> threading.Thread:
    """A thread that waits for a place, tells that it has one, and leaves."""

    def work() -> None:
        visit = Visit()
        gate.enter(visit, NO_LIMIT, NEVER)
        told()
        gate.leave(visit)

    visitor = threading.Thread(target=work)
    visitor.start()
    return visitor


def test_places_are_given_in_the_order_of_arrival() -> None:
    gate, first = WorkGate(1, 10), Visit()
    assert gate.enter(first, NO_LIMIT, NEVER) is None
    order: list[int] = []

    threads = []
    for number in range(5):
        threads.append(visited(gate, partial(order.append, number)))
        wait_until_waiting(gate, number + 1)
    gate.leave(first)
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]
    assert (gate.running, gate.waiting) == (0, 0)


def test_a_full_queue_refuses_at_once() -> None:
    gate, first, refused = WorkGate(1, 0), Visit(), Visit()
    gate.enter(first, NO_LIMIT, NEVER)
    with pytest.raises(BackpressureError):
        gate.enter(refused, NO_LIMIT, NEVER)
    gate.leave(refused)
    assert gate.running == 1
    gate.leave(first)
    assert gate.enter(Visit(), NO_LIMIT, NEVER) is None


def test_a_deadline_ends_the_wait() -> None:
    gate, late = WorkGate(1, 1), Visit()
    gate.enter(Visit(), NO_LIMIT, NEVER)
    assert gate.enter(late, WorkLimit.within(0.01), NEVER) is ReasonCode.CANCELLED_BY_TIMEOUT
    gate.leave(late)
    assert (gate.running, gate.waiting) == (1, 0)


def test_a_place_that_was_given_to_one_who_goes_away_is_passed_on() -> None:
    """As when Ctrl-C comes between the giving and the taking."""
    gate, first, gone = WorkGate(1, 2), Visit(), Visit()
    gate.enter(first, NO_LIMIT, NEVER)
    served: list[str] = []

    gate.enter(gone, WorkLimit.within(0.01), NEVER)
    waiter = visited(gate, partial(served.append, "next"))
    wait_until_waiting(gate, 2)
    gate.leave(first)
    assert (gate.running, gate.waiting, served) == (1, 1, [])
    gate.leave(gone)
    waiter.join(10)
    assert (gate.running, gate.waiting, served) == (0, 0, ["next"])


def test_cancellation_ends_the_wait() -> None:
    gate, token = WorkGate(1, 1), CancellationToken()
    first, second = Visit(), Visit()
    gate.enter(first, NO_LIMIT, NEVER)
    answers: list[ReasonCode | None] = []

    def wait() -> None:
        answers.append(gate.enter(second, WorkLimit(token), token))

    waiter = threading.Thread(target=wait)
    waiter.start()
    wait_until_waiting(gate, 1)
    token.cancel()
    waiter.join(10)
    assert answers == [ReasonCode.CANCELLED_BY_CALLER]
    gate.leave(second)
    gate.leave(first)
    assert gate.running == 0


def test_draining_waits_for_those_inside_and_in_the_queue() -> None:
    gate, first = WorkGate(1, 1), Visit()
    gate.enter(first, NO_LIMIT, NEVER)
    done: list[str] = []

    waiter = visited(gate, partial(done.append, "served"))
    wait_until_waiting(gate, 1)
    assert not gate.drain(0.01)
    with pytest.raises(ClosedError):
        gate.enter(Visit(), NO_LIMIT, NEVER)
    gate.leave(first)
    assert gate.drain(10.0)
    waiter.join(10)
    assert (done, gate.running) == (["served"], 0)


def test_a_forked_child_begins_with_nobody_inside() -> None:
    gate, of_the_parent = WorkGate(1, 0), Visit()
    gate.enter(of_the_parent, NO_LIMIT, NEVER)
    gate.begin_in_child()
    assert gate.enter(Visit(), NO_LIMIT, NEVER) is None
    gate.leave(of_the_parent)
    assert gate.running == 1
