"""The gate beside the scheduler: first come, first served; bounded; left when stopped."""

from __future__ import annotations

import threading

import pytest

from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.runtime.work_gate import WorkGate
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import BackpressureError, ClosedError

NEVER = CancellationToken()


def wait_until_waiting(gate: WorkGate, count: int) -> None:
    deadline = WorkLimit.within(10.0)
    while gate.waiting != count:
        deadline.check("waiting for the queue")
        threading.Event().wait(0.001)


def test_places_are_given_in_the_order_of_arrival() -> None:
    gate = WorkGate(1, 10)
    assert gate.enter(NO_LIMIT, NEVER) is None
    order: list[int] = []

    def work(number: int) -> None:
        gate.enter(NO_LIMIT, NEVER)
        order.append(number)
        gate.leave()

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        wait_until_waiting(gate, number + 1)
    gate.leave()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]
    assert (gate.running, gate.waiting) == (0, 0)


def test_a_full_queue_refuses_at_once() -> None:
    gate = WorkGate(1, 0)
    gate.enter(NO_LIMIT, NEVER)
    with pytest.raises(BackpressureError):
        gate.enter(NO_LIMIT, NEVER)
    gate.leave()
    assert gate.enter(NO_LIMIT, NEVER) is None


def test_a_deadline_ends_the_wait() -> None:
    gate = WorkGate(1, 1)
    gate.enter(NO_LIMIT, NEVER)
    assert gate.enter(WorkLimit.within(0.01), NEVER) is ReasonCode.CANCELLED_BY_TIMEOUT
    assert gate.waiting == 0


def test_cancellation_ends_the_wait() -> None:
    gate, token = WorkGate(1, 1), CancellationToken()
    gate.enter(NO_LIMIT, NEVER)
    answers: list[ReasonCode | None] = []
    waiter = threading.Thread(target=lambda: answers.append(gate.enter(WorkLimit(token), token)))
    waiter.start()
    wait_until_waiting(gate, 1)
    token.cancel()
    waiter.join(10)
    assert answers == [ReasonCode.CANCELLED_BY_CALLER]
    gate.leave()
    assert gate.running == 0


def test_draining_waits_for_those_inside_and_in_the_queue() -> None:
    gate = WorkGate(1, 1)
    gate.enter(NO_LIMIT, NEVER)
    done: list[str] = []

    def work() -> None:
        gate.enter(NO_LIMIT, NEVER)
        done.append("served")
        gate.leave()

    waiter = threading.Thread(target=work)
    waiter.start()
    wait_until_waiting(gate, 1)
    assert not gate.drain(0.01)
    with pytest.raises(ClosedError):
        gate.enter(NO_LIMIT, NEVER)
    gate.leave()
    assert gate.drain(10.0)
    waiter.join(10)
    assert (done, gate.running) == (["served"], 0)


def test_a_forked_child_begins_with_nobody_inside() -> None:
    gate = WorkGate(1, 0)
    gate.enter(NO_LIMIT, NEVER)
    gate.begin_in_child()
    assert gate.enter(NO_LIMIT, NEVER) is None
