"""The queue: first come, first served; bounded; left by cancellation and deadline."""

from __future__ import annotations

import threading

import pytest

from smallmind_engine.control import NO_LIMIT, CancellationToken, WorkLimit
from smallmind_engine.runtime.admission import AdmissionGate
from smallmind_engine.telemetry import ReasonCode
from smallmind_engine.telemetry.errors import BackpressureError, ClosedError


def wait_until_waiting(gate: AdmissionGate, count: int) -> None:
    deadline = WorkLimit.within(10.0)
    while gate.waiting != count:
        deadline.check("waiting for the queue")
        threading.Event().wait(0.001)


def test_places_are_given_in_the_order_of_arrival() -> None:
    gate = AdmissionGate(1, 10)
    assert gate.enter(NO_LIMIT, None) is None
    order: list[int] = []

    def work(number: int) -> None:
        gate.enter(NO_LIMIT, None)
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
    gate = AdmissionGate(1, 0)
    gate.enter(NO_LIMIT, None)
    with pytest.raises(BackpressureError):
        gate.enter(NO_LIMIT, None)
    gate.leave()
    assert gate.enter(NO_LIMIT, None) is None


def test_a_deadline_ends_the_wait() -> None:
    gate = AdmissionGate(1, 1)
    gate.enter(NO_LIMIT, None)
    assert gate.enter(WorkLimit.within(0.01), None) is ReasonCode.CANCELLED_BY_TIMEOUT
    assert gate.waiting == 0


def test_cancellation_ends_the_wait() -> None:
    gate, token = AdmissionGate(1, 1), CancellationToken()
    gate.enter(NO_LIMIT, None)
    answers: list[ReasonCode | None] = []
    waiter = threading.Thread(target=lambda: answers.append(gate.enter(WorkLimit(token), token)))
    waiter.start()
    wait_until_waiting(gate, 1)
    token.cancel()
    waiter.join(10)
    assert answers == [ReasonCode.CANCELLED_BY_CALLER]
    gate.leave()
    assert gate.running == 0


def test_closing_turns_everybody_away() -> None:
    gate = AdmissionGate(1, 1)
    gate.enter(NO_LIMIT, None)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            gate.enter(NO_LIMIT, None)
        except ClosedError as error:
            errors.append(error)

    waiter = threading.Thread(target=work)
    waiter.start()
    wait_until_waiting(gate, 1)
    gate.close()
    waiter.join(10)
    assert len(errors) == 1
    with pytest.raises(ClosedError):
        gate.enter(NO_LIMIT, None)
    gate.leave()
    assert gate.running == 0
